%% The oracle's Erlang side: runs a batch of scenarios on OTP and prints what happened.
%%
%% tests/src/bin/atoll-oracle/scenario.rs describes the language, the form of the trace, and the deliberate differences
%% between Atoll and OTP, for which this module wraps OTP's functions. The guest `oracle` is this module's twin on Atoll: the
%% same parts, under the same names.
%%
%%   conductor   reads a step, has an actor perform it, waits until everything that follows from it has happened, and
%%               prints what it saw. It watches every actor.
%%   actor       performs one command after another. Messages of others stay in its mailbox until a step takes them.
%%
%% Messages between the two can't be mistaken for messages between actors:
%%
%%   {'$cmd', Operation, Arguments}      conductor -> actor
%%   {'$ping', Round}                    conductor -> actor
%%   {'$begun', Actor}                   actor -> conductor: it is about to wait, for how long nobody knows
%%   {'$ack', Actor, Result, Bindings}   actor -> conductor: done; Bindings are the labels that the step has made
%%   {'$pong', Actor, Round}             actor -> conductor
%%   {m, Sender, Tag, N, Reference}      actor -> actor: a message
%%   {r, Sender, Tag, N, Reference}      actor -> actor: the same as a reply, which a call takes
-module(oracle).
-export([main/1]).

%% If the steps of a scenario don't come to rest within this time, the trace says HANG.
-define(HANG_MS, 5000).
%% The delay called `short`.
-define(SHORT_MS, 2).
%% The delay of a timer that is cancelled in time.
-define(SOON_MS, 10).
%% The delay called `long`: longer than any run.
-define(LONG_MS, 3600000).

%% One actor from the conductor's view. `dirty`: events have come in an undetermined order, while the conductor could not ask
%% the actor for them.
-record(actor, {pid, state = idle :: idle | blocked | dead, monitor, queue = 0, dirty = false, calls = false}).

%% `actors`: by label. `labels`: of pids. `refs`: by label, each with the actor that made it. `refs_of`: labels of references.
%% `woken`, `ended`: the consequences of this step. `moved`: something has happened in this round.
-record(st, {actors = #{}, labels = #{}, refs = #{}, ref_labels = #{}, woken = [], ended = [], moved = false, round = 0}).

main([File]) ->
    logger:set_primary_config(level, none),
    {ok, _} = pg:start_link(),
    register(oracle_watcher, spawn_link(fun() -> watch_groups(#{}) end)),
    {ok, Text} = file:read_file(File),
    ok = io:setopts([{encoding, latin1}]),
    batch([string:lexemes(Line, " ") || Line <- string:split(binary_to_list(Text), "\n", all)]),
    halt(0).

batch([]) -> ok;
batch([["scenario", Name] | Lines]) ->
    {Steps, Rest} = scenario_lines(Lines, []),
    Trace = run(Steps),
    ok = file:write(standard_io, ["scenario ", Name, "\n", Trace, "end\n"]),
    batch(Rest);
batch([_ | Lines]) -> batch(Lines).

%% The groups of steps up to `end`: one step, or the steps of a `par`.
scenario_lines([["end"] | Rest], Groups) -> {lists:reverse(Groups), Rest};
scenario_lines([["par", Count] | Lines], Groups) ->
    {Steps, Rest} = lists:split(list_to_integer(Count), Lines),
    scenario_lines(Rest, [{par, Steps} | Groups]);
scenario_lines([[] | Lines], Groups) -> scenario_lines(Lines, Groups);
scenario_lines([Step | Lines], Groups) -> scenario_lines(Lines, [{one, Step} | Groups]).

%%% The conductor.

run(Groups) ->
    {Trace, St} = try run(Groups, #st{}, []) catch throw:{hang, Said, Where, HungSt} -> {[Said, Where], HungSt} end,
    finish(St),
    Trace.

run([], St, Said) -> {Said, St};
run([{one, ["actors", Count] = Words} | Groups], St, Said) ->
    Spawn = fun(N, StN) -> enlist("a" ++ integer_to_list(N), spawn_actor([]), StN) end,
    Spawned = lists:foldl(Spawn, St, lists:seq(0, list_to_integer(Count) - 1)),
    run(Groups, settle(Spawned), [Said, text(Words), "\n"]);
run([Group | Groups], St0, Said0) ->
    {Steps, Heading} = case Group of
        {one, Step} -> {[Step], []};
        {par, Several} -> {Several, ["par ", integer_to_list(length(Several)), "\n"]}
    end,
    Said = [Said0, Heading, [[text(Words), "\n"] || Words <- Steps]],
    {Issued, St1} = lists:mapfoldl(fun issue/2, St0#st{woken = [], ended = []}, Steps),
    try
        {Results, St2} = lists:mapfoldl(fun await_result/2, St1, Issued),
        St3 = settle(St2),
        {Seen, St4} = report(Results, is_ordered(Group), St3),
        run(Groups, St4, [Said, Seen])
    catch
        throw:{hang, Where, HungSt} -> throw({hang, Said, ["  HANG ", Where, "\n"], HungSt})
    end.

%% Whether the order of several events of this step is determined, because they come from one sender.
is_ordered({one, [_, "send-many" | _]}) -> true;
is_ordered(_) -> false.

spawn_actor(Options) ->
    Conductor = self(),
    case spawn_opt(fun() -> put(conductor, Conductor), idle() end, Options) of
        {_, _} = Monitored -> Monitored;
        Pid -> Pid
    end.

enlist(Label, Pid, St = #st{actors = Actors, labels = Labels}) ->
    Actor = #actor{pid = Pid, monitor = monitor(process, Pid)},
    St#st{actors = Actors#{Label => Actor}, labels = Labels#{Pid => Label}}.

%% Sends a step to its actor, or skips a step that can't be performed. The conductor skips a step if its actor does not exist,
%% is dead, waits in a step of its own or is suspended, or if a label has no meaning yet, or has one already.
issue([Label, Operation | Words], St) ->
    try
        #actor{pid = Pid, state = idle} = Actor = maps:get(Label, St#st.actors),
        false = is_suspended(Pid),
        Arguments = [resolve(Word, St) || Word <- Words],
        Pid ! {'$cmd', Operation, completed(Operation, Arguments, St)},
        % The actor is busy until its answer has come, so the conductor skips another step of the same burst.
        {{Label, Operation, Words}, put_actor(Label, Actor#actor{state = blocked}, St)}
    catch
        error:_ -> {skipped, St}
    end.

resolve([$=, Kind | Digits] = Word, St) when Kind =:= $a; Kind =:= $r ->
    Label = tl(Word),
    true = is_number_text(Digits),
    false = is_map_key(Label, St#st.actors) orelse is_map_key(Label, St#st.refs),
    {new, Label};
resolve("ref:" ++ Label, St) -> {ref, element(1, maps:get(Label, St#st.refs))};
resolve([Kind | Digits] = Word, St) when Kind =:= $a; Kind =:= $r ->
    case is_number_text(Digits) of
        false -> Word;
        true when Kind =:= $a -> (maps:get(Word, St#st.actors))#actor.pid;
        true -> element(1, maps:get(Word, St#st.refs))
    end;
resolve(Word, _) -> Word.

is_number_text(Text) -> Text =/= [] andalso lists:all(fun(C) -> C >= $0 andalso C =< $9 end, Text).

%% Only the conductor knows this: whether to leave out the monitors of a call that waits.
completed("info", Arguments, #st{actors = Actors}) ->
    Arguments ++ [lists:any(fun(#actor{calls = Calls}) -> Calls end, maps:values(Actors))];
completed(_, Arguments, _) -> Arguments.

is_suspended(Pid) -> process_info(Pid, status) =:= {status, suspended}.

%% Waits until a step's actor has answered, has died, or waits in the step.
await_result(skipped, St) -> {skipped, St};
await_result({Label, Operation, Words}, St) ->
    #actor{pid = Pid, monitor = Monitor} = Actor = maps:get(Label, St#st.actors),
    receive
        {'$ack', Pid, Result, Bindings} ->
            {{Label, Result}, bind(Bindings, Pid, put_actor(Label, Actor#actor{state = idle}, St))};
        {'DOWN', Monitor, process, Pid, Reason} ->
            {{Label, died}, ended(Label, Reason, St)};
        {'$begun', Pid} ->
            case lists:last(Words) of
                "short" -> await_result({Label, Operation, Words}, St);
                _ ->
                    Blocked = Actor#actor{state = blocked, calls = Operation =:= "call"},
                    {{Label, blocked}, put_actor(Label, Blocked, St)}
            end
    after ?HANG_MS -> throw({hang, ["no answer from ", Label], St})
    end.

bind(Bindings, Maker, St) ->
    Bind = fun
        ({"a" ++ _ = Label, Pid}, StN) -> enlist(Label, Pid, StN);
        ({"r" ++ _ = Label, Ref}, StN) ->
            StN#st{refs = (StN#st.refs)#{Label => {Ref, Maker}}, ref_labels = (StN#st.ref_labels)#{Ref => Label}}
    end,
    lists:foldl(Bind, St, Bindings).

put_actor(Label, Actor, St) -> St#st{actors = (St#st.actors)#{Label => Actor}}.

%% Notes a death once all its consequences have been sent.
ended(Label, Reason, St) ->
    Actor = maps:get(Label, St#st.actors),
    await_farewells(),
    put_actor(Label, Actor#actor{state = dead, calls = false}, St#st{ended = [{Label, Reason} | St#st.ended], moved = true}).

%% Returns when the processes whose down-signals have come have sent all their other signals, too. Processes that are ending
%% do so in an undetermined order, after they have left the list of processes. With all other schedulers stopped, no process
%% is in the middle of its end, and a process that has to go on is in this scheduler's queue.
await_farewells() ->
    erlang:system_flag(multi_scheduling, block),
    [erlang:yield() || _ <- lists:seq(1, 4)],
    erlang:system_flag(multi_scheduling, unblock).

%% Polls for changes that send no message.
await(Holds, What, St) -> await(Holds, What, St, erlang:monotonic_time(millisecond) + ?HANG_MS).

await(Holds, What, St, Deadline) ->
    case Holds() of
        true -> ok;
        false ->
            erlang:monotonic_time(millisecond) < Deadline orelse throw({hang, What, St}),
            erlang:yield(),
            await(Holds, What, St, Deadline)
    end.

%% Returns when the scenario is at rest: the conductor has asked every actor after the last event, and no further event has
%% come.
settle(St0) ->
    settle_groups(),
    Round = St0#st.round + 1,
    St1 = St0#st{round = Round, moved = false},
    St2 = lists:foldl(fun(Label, St) -> ping(Label, Round, St) end, St1, living(St1)),
    case collect(St2) of
        #st{moved = true} = St3 -> settle(St3);
        St3 ->
            % An actor that has answered may not wait again yet, and would be seen running.
            [await_rest(Label, St3) || Label <- living(St3)],
            St3
    end.

living(St) -> sort([Label || {Label, #actor{state = State}} <- maps:to_list(St#st.actors), State =/= dead]).

%% Has an actor handle all its messages.
ping(Label, Round, St) ->
    #actor{pid = Pid, state = State, monitor = Monitor} = maps:get(Label, St#st.actors),
    case process_info(Pid, status) of
        {status, suspended} -> St;
        _ when State =:= idle ->
            Pid ! {'$ping', Round},
            receive
                {'$pong', Pid, Round} -> St;
                {'DOWN', Monitor, process, Pid, Reason} -> ended(Label, Reason, St)
            after ?HANG_MS -> throw({hang, ["no pong from ", Label], St})
            end;
        _ ->
            % The actor waits, and the event that it waits for may have come.
            await_rest(Label, St),
            process_info(Pid, status) =/= undefined orelse receive
                {'DOWN', Monitor, process, Pid, _} = Down -> self() ! Down
            after ?HANG_MS -> throw({hang, ["no end of ", Label], St})
            end,
            St
    end.

await_rest(Label, St) ->
    #actor{pid = Pid} = maps:get(Label, St#st.actors),
    Resting = [{status, waiting}, {status, suspended}, undefined],
    await(fun() -> lists:member(process_info(Pid, status), Resting) end, ["no rest for ", Label], St).

%% Takes the messages that have come to the conductor meanwhile.
collect(St) ->
    receive
        {'$ack', Pid, Result, Bindings} ->
            Label = maps:get(Pid, St#st.labels),
            Actor = (maps:get(Label, St#st.actors))#actor{state = idle, calls = false},
            Awake = St#st{woken = [{Label, Result} | St#st.woken], moved = true},
            collect(bind(Bindings, Pid, put_actor(Label, Actor, Awake)));
        {'DOWN', _, process, Pid, Reason} -> collect(ended(maps:get(Pid, St#st.labels), Reason, St))
    after 0 -> St
    end.

%% Reports how a group of steps went, and drains those actors to which events came in an undetermined order.
report(Results, IsOrdered, St0) ->
    Died = [Label || {Label, _} <- St0#st.ended],
    Woken = sort([W || {Label, _} = W <- St0#st.woken, not lists:member(Label, Died)]),
    Lines = [
        [["  => ", result(Result, Died, St0), "\n"] || Result <- Results],
        [["  ", Label, " woke ", show(Result, St0), "\n"] || {Label, Result} <- Woken],
        [["  ", Label, " ended ", reason(Reason), "\n"] || {Label, Reason} <- sort(St0#st.ended)]
    ],
    Look = fun(Label, St) -> look(Label, IsOrdered, lists:keymember(Label, 1, Woken), St) end,
    {Drained, St1} = lists:mapfoldl(Look, St0, living(St0)),
    {[Lines, Drained], St1}.

result(skipped, _, _) -> "skipped";
result({Label, Result}, Died, St) ->
    case lists:member(Label, Died) of
        true -> "died";
        false -> show(Result, St)
    end.

look(Label, IsOrdered, Woke, St) ->
    #actor{pid = Pid, state = State, queue = Before, dirty = WasDirty} = Actor = maps:get(Label, St#st.actors),
    {message_queue_len, Now} = process_info(Pid, message_queue_len),
    Grown = Now - Before,
    Dirty = WasDirty orelse not IsOrdered andalso (Grown >= 2 orelse Woke andalso Grown >= 1),
    CanAct = State =:= idle andalso not is_suspended(Pid),
    case CanAct andalso Now > 0 andalso Dirty of
        true ->
            Pid ! {'$cmd', "drain", []},
            receive
                {'$ack', Pid, Drained, []} ->
                    Rested = Actor#actor{queue = 0, dirty = false},
                    {["  ", Label, " drained ", show(Drained, St), "\n"], put_actor(Label, Rested, St)}
            after ?HANG_MS -> throw({hang, ["no drain of ", Label], St})
            end;
        false ->
            {[], put_actor(Label, Actor#actor{queue = Now, dirty = Dirty andalso not CanAct}, St)}
    end.

%% Ends all actors, and forgets what they have sent.
finish(St) ->
    Living = [Actor || #actor{state = State} = Actor <- maps:values(St#st.actors), State =/= dead],
    [exit(Pid, kill) || #actor{pid = Pid} <- Living],
    [receive {'DOWN', Monitor, process, _, _} -> ok end || #actor{monitor = Monitor} <- Living],
    await_farewells(),
    settle_groups(),
    ok = ask_watcher(reset),
    flush().

flush() -> receive _ -> flush() after 0 -> ok end.

%%% Groups.

%% One process makes all monitors of groups, and passes the signals on to the actors that asked for them. In OTP 25 the
%% groups' server crashes when a process ends that is a member and monitors a group.
watch_groups(Watched) ->
    receive
        {From, Alias, {monitor, Group}} ->
            {Ref, _} = Monitor = pg:monitor(Group),
            Alias ! {Alias, Monitor},
            watch_groups(Watched#{Ref => From});
        {From, Alias, {demonitor, Ref}} when map_get(Ref, Watched) =:= From ->
            ok = pg:demonitor(Ref),
            Alias ! {Alias, true},
            watch_groups(maps:remove(Ref, Watched));
        {_, Alias, {demonitor, _}} ->
            Alias ! {Alias, false},
            watch_groups(Watched);
        {_, Alias, settle} ->
            Alias ! {Alias, ok},
            watch_groups(Watched);
        {_, Alias, reset} ->
            [pg:demonitor(Ref) || Ref <- maps:keys(Watched)],
            Alias ! {Alias, ok},
            watch_groups(#{});
        {Ref, _Change, _Group, _Pids} = Event ->
            maps:get(Ref, Watched) ! Event,
            watch_groups(Watched)
    end.

ask_watcher(Request) ->
    Alias = alias([reply]),
    oracle_watcher ! {self(), Alias, Request},
    receive {Alias, Answer} -> Answer end.

%% The groups' server learns of deaths as other processes do, and tells the monitoring processes.
settle_groups() ->
    _ = sys:get_state(pg),
    ok = ask_watcher(settle).

flush_group(Ref) -> receive {Ref, _, _, _} -> flush_group(Ref) after 0 -> true end.

%%% Formatting.

show(Text, _) when is_list(Text) -> Text;
show(Atom, _) when is_atom(Atom) -> atom_to_list(Atom);
show({event, Event}, St) -> event(Event, St);
show({events, []}, _) -> "none";
show({events, Events}, St) -> lists:join("; ", [event(Event, St) || Event <- Events]);
show({pid, Pid}, St) -> label(Pid, St);
show({set, Things}, St) -> ["{", lists:join(",", sort([label(Thing, St) || Thing <- Things, is_ours(Thing, St)])), "}"];
show({words, Parts}, St) -> lists:join(" ", [show(Part, St) || Part <- Parts]);
show({down, Reason}, _) -> ["down ", reason(Reason)].

is_ours(Pid, St) when is_pid(Pid) -> is_map_key(Pid, St#st.labels);
is_ours(_, _) -> true.

label(Pid, St) when is_pid(Pid) -> maps:get(Pid, St#st.labels, "?");
label({Name, _Node}, _) -> atom_to_list(Name);
label(Name, _) -> atom_to_list(Name).

event({Kind, Sender, Tag, N, Ref}, St) when Kind =:= m; Kind =:= r ->
    Carried = case Ref of
        none -> "";
        _ -> " " ++ maps:get(Ref, St#st.ref_labels, "request")
    end,
    ["message ", label(Sender, St), " tag ", integer_to_list(Tag), " n ", integer_to_list(N), Carried];
event({'EXIT', Sender, Reason}, St) -> ["exit ", label(Sender, St), " ", reason(Reason)];
event({'DOWN', Ref, process, Target, Reason}, St) ->
    ["down ", ref_label(Ref, St), " ", label(Target, St), " ", reason(Reason)];
event({timeout, Ref, Tag}, St) -> ["timer ", ref_label(Ref, St), " tag ", integer_to_list(Tag)];
event({Ref, Change, _Group, Pids}, St) ->
    Said = case Change of join -> " joined "; leave -> " left " end,
    lists:join("; ", [["group ", ref_label(Ref, St), Said, label(Pid, St)] || Pid <- Pids]).

ref_label(Ref, St) -> maps:get(Ref, St#st.ref_labels, "?").

reason({crash, _}) -> "crash";
reason({exit_code, Code}) -> ["exit-code:", integer_to_list(Code)];
reason({Kind, Term}) -> [atom_to_list(Kind), $:, atom_to_list(Term)];
reason(Atom) -> atom_to_list(Atom).

%% Labels in the order of their numbers.
sort(Labelled) ->
    Key = fun
        ({Label, _}) -> {length(Label), Label};
        (Label) -> {length(Label), Label}
    end,
    lists:sort(fun(A, B) -> Key(A) =< Key(B) end, Labelled).

text(Words) -> lists:join(" ", Words).

%%% An actor.

idle() ->
    receive
        {'$ping', Round} ->
            get(conductor) ! {'$pong', self(), Round},
            idle();
        {'$cmd', Operation, Arguments} ->
            case do(Operation, Arguments) of
                return -> ok;
                {Result, Bindings} ->
                    get(conductor) ! {'$ack', self(), Result, Bindings},
                    idle()
            end
    end.

%% Performs one step. Returns its result, and the labels that it gives.
do("return", []) -> return;
do("crash", []) -> erlang:error(crash);
do("exit", [Reason]) -> exit(to_reason(Reason));
do("exit-process", [Pid, Reason]) -> exit(Pid, to_reason(Reason)), {ok, []};
do("trap-exit", [Wanted]) -> {process_flag(trap_exit, Wanted =:= "on"), []};
do("link", [Pid]) ->
    % OTP raises an error where Atoll sends an exit signal. The process ends with the same reason.
    try link(Pid), {ok, []} catch error:noproc -> exit(noproc) end;
do("unlink", [Pid]) -> unlink(Pid), {ok, []};
do("monitor", [Target, {new, Label}]) -> {ok, [{Label, monitor(process, destination(Target))}]};
do("demonitor", [Ref | Options]) ->
    % A reference of another process is an error in OTP, where the check is cheap.
    Flush = [flush || ["flush"] =:= Options],
    {try demonitor(Ref, [info | Flush]) catch error:badarg -> false end, []};
do("spawn", [{new, Label} | Options]) -> do_spawn(Label, Options);
do("send", [Pid, Tag, N | Ref]) ->
    Pid ! message(Tag, N, case Ref of [] -> none; [Carried] -> Carried end),
    {ok, []};
do("send-many", [Pid, Tag, First, Count]) ->
    From = list_to_integer(First),
    [Pid ! {m, self(), list_to_integer(Tag), N, none} || N <- lists:seq(From, From + list_to_integer(Count) - 1)],
    {ok, []};
do("send-name", [Name, Tag, N]) ->
    {try list_to_atom(Name) ! message(Tag, N, none), true catch error:badarg -> false end, []};
do("recv", [Selector]) -> {take(Selector, 0), []};
do("drain", []) -> {{events, drain()}, []};
do("await", [Selector, Timeout]) ->
    begun(),
    {case take(Selector, timeout(Timeout)) of none -> timeout; Event -> Event end, []};
do("make-ref", [{new, Label}]) -> {ok, [{Label, make_ref()}]};
do("call", [Target, Tag, N, Timeout]) -> {call(destination(Target), Tag, N, timeout(Timeout)), []};
do("reply", [Pid, Tag, N | Twice]) -> {reply(Pid, Tag, N, 1 + length(Twice)), []};
do("alias", [{new, Label}]) -> {ok, [{Label, alias([reply])}]};
do("unalias", [Ref]) -> {unalias(Ref), []};
do("answer", [Ref, Tag, N]) -> Ref ! reply_message(Tag, N, Ref), {ok, []};
do("register", [Name, Pid]) -> {do_register(list_to_atom(Name), Pid), []};
do("unregister", [Name]) -> {try unregister(list_to_atom(Name)) catch error:badarg -> false end, []};
do("whereis", [Name]) ->
    {case whereis(list_to_atom(Name)) of undefined -> none; Pid -> {pid, Pid} end, []};
do("registered", []) -> {{set, [Name || Name <- registered(), is_name(atom_to_list(Name))]}, []};
do("join", [Group, Pid]) ->
    % OTP lets a dead process join, and removes it at once.
    {case is_process_alive(Pid) of true -> pg:join(list_to_atom(Group), Pid); false -> noproc end, []};
do("leave", [Group, Pid]) -> {pg:leave(list_to_atom(Group), Pid) =:= ok, []};
do("members", [Group]) -> {{set, pg:get_members(list_to_atom(Group))}, []};
do("which-groups", []) -> {{set, pg:which_groups()}, []};
do("monitor-group", [Group, {new, Label}]) ->
    {Ref, Members} = ask_watcher({monitor, list_to_atom(Group)}),
    own(Ref, group),
    {{set, Members}, [{Label, Ref}]};
do("demonitor-group", [Ref]) -> {owns(Ref) andalso ask_watcher({demonitor, Ref}) andalso flush_group(Ref), []};
do("start-timer", [Target, Delay, Tag, {new, Label}]) ->
    started(erlang:start_timer(timeout(Delay), destination(Target), list_to_integer(Tag)), Target, Delay, Label);
do("send-after", [Target, Delay, Tag, N, {new, Label}]) ->
    started(erlang:send_after(timeout(Delay), destination(Target), message(Tag, N, none)), Target, Delay, Label);
do("cancel", [Ref]) ->
    Was = is_running(Ref),
    _ = owns(Ref) andalso erlang:cancel_timer(Ref),
    erase({owned, Ref}),
    {activity(Was), []};
do("cancel-early", [Tag, {new, Label}]) -> {ok, [{Label, cancel_early(list_to_integer(Tag))}]};
do("read", [Ref]) -> {activity(is_running(Ref)), []};
do("is-alive", [Pid]) -> {is_process_alive(Pid), []};
do("info", [Pid, Calls]) -> {info(process_info(Pid, [status, trap_exit, priority, registered_name, message_queue_len,
    links, monitors, monitored_by]), Calls), []};
do("set-priority", [Priority]) -> {process_flag(priority, list_to_atom(Priority)), []};
do("suspend", [Pid]) -> {try erlang:suspend_process(Pid) catch error:badarg -> false end, []};
do("resume", [Pid]) -> {try erlang:resume_process(Pid) catch error:badarg -> false end, []};
do("yield", []) -> erlang:yield(), {ok, []};
% OTP's own function does not return.
do("hibernate", []) -> {ok, []}.

begun() -> get(conductor) ! {'$begun', self()}.

message(Tag, N, Ref) -> {m, self(), list_to_integer(Tag), list_to_integer(N), Ref}.

reply_message(Tag, N, Ref) -> setelement(1, message(Tag, N, Ref), r).

timeout("short") -> ?SHORT_MS;
timeout("long") -> ?LONG_MS;
timeout("forever") -> infinity.

destination(Name) when is_list(Name) -> list_to_atom(Name);
destination(Pid) -> Pid.

is_name([$n | Digits]) -> is_number_text(Digits);
is_name(_) -> false.

to_reason("crash") -> {crash, told};
to_reason("exit-code:" ++ Code) -> {exit_code, list_to_integer(Code)};
to_reason(Text) ->
    case string:split(Text, ":") of
        [Kind, Term] -> {list_to_atom(Kind), list_to_atom(Term)};
        [Atom] -> list_to_atom(Atom)
    end.

%% OTP has no option for a name, so the actor checks beforehand whether the name is taken.
do_spawn(Label, Words) ->
    {Options, Name, Ref} = spawn_options(Words, {[], none, none}),
    case Name =/= none andalso whereis(Name) =/= undefined of
        true -> {"name-taken", []};
        false ->
            Conductor = get(conductor),
            Begin = fun() -> put(conductor, Conductor), idle() end,
            {Pid, Monitor} = case spawn_opt(Begin, Options) of
                {_, _} = Both -> Both;
                Alone -> {Alone, none}
            end,
            _ = Name =:= none orelse register(Name, Pid),
            {ok, [{Label, Pid} | [{Ref, Monitor} || Ref =/= none]]}
    end.

spawn_options(["link" | Words], {Options, Name, Ref}) -> spawn_options(Words, {[link | Options], Name, Ref});
spawn_options(["monitor", {new, Label} | Words], {Options, Name, _}) ->
    spawn_options(Words, {[monitor | Options], Name, Label});
spawn_options(["name", Name | Words], {Options, _, Ref}) -> spawn_options(Words, {Options, list_to_atom(Name), Ref});
spawn_options(["priority", Priority | Words], {Options, Name, Ref}) ->
    spawn_options(Words, {[{priority, list_to_atom(Priority)} | Options], Name, Ref});
spawn_options([], Parsed) -> Parsed.

%% OTP says only that it refused. Where several of Atoll's reasons hold, the trace may give any of them.
do_register(Name, Pid) ->
    Refusals = [Why || {Why, true} <- [
        {"taken", whereis(Name) =/= undefined},
        {"already-named", is_process_alive(Pid) andalso process_info(Pid, registered_name) =/= []},
        {"noproc", not is_process_alive(Pid)}
    ]],
    try register(Name, Pid), ok catch error:badarg -> lists:append(lists:join("|", Refusals)) end.

%% Takes the first event that fits the selector.
take(Selector, Timeout) ->
    Wanted = wanted(Selector),
    receive
        {Kind, _, Tag, _, Ref} = Event
            when (Kind =:= m orelse Kind =:= r)
                andalso (is_map_key(message, Wanted) orelse is_map_key({tag, Tag}, Wanted)
                    orelse is_map_key({ref, Ref}, Wanted)) ->
            taken(Event);
        {'EXIT', _, _} = Event when is_map_key(exit, Wanted) -> {event, Event};
        {'DOWN', Ref, process, _, _} = Event when is_map_key(down, Wanted); is_map_key({ref, Ref}, Wanted) ->
            {event, Event};
        {timeout, Ref, _} = Event when is_map_key(timer, Wanted); is_map_key({ref, Ref}, Wanted) -> {event, Event};
        {Ref, Change, _, _} = Event
            when (Change =:= join orelse Change =:= leave)
                andalso (is_map_key(group, Wanted) orelse is_map_key({ref, Ref}, Wanted)) ->
            {event, Event}
    after Timeout -> none
    end.

wanted({ref, Ref}) -> #{{ref, Ref} => true};
wanted("any") -> wanted("kinds:message,exit,down,timer,group");
wanted("tag:" ++ Tag) -> #{{tag, list_to_integer(Tag)} => true};
wanted("tags:" ++ Tags) -> maps:from_list([{{tag, list_to_integer(Tag)}, true} || Tag <- string:lexemes(Tags, ",")]);
wanted("kinds:" ++ Kinds) -> maps:from_list([{list_to_atom(Kind), true} || Kind <- string:lexemes(Kinds, ",")]).

%% A message with a reference may be a request, which `reply` answers.
taken({_, Sender, _, _, Ref} = Event) ->
    _ = Ref =:= none orelse put(requests, requests() ++ [{Sender, Ref}]),
    {event, Event}.

requests() -> case get(requests) of undefined -> []; Requests -> Requests end.

drain() ->
    case take("any", 0) of
        none -> [];
        {event, Event} -> [Event | drain()]
    end.

%% The same as gen_server:call.
call(Target, Tag, N, Timeout) ->
    begun(),
    Ref = monitor(process, Target, [{alias, reply_demonitor}]),
    try Target ! message(Tag, N, Ref) catch error:badarg -> ok end,
    receive
        {r, _, _, _, Ref} = Reply -> replied(Reply);
        {'DOWN', Ref, process, _, Reason} -> {down, Reason}
    after Timeout ->
        demonitor(Ref, [flush]),
        receive {r, _, _, _, Ref} = Reply -> replied(Reply) after 0 -> timeout end
    end.

replied({r, Sender, Tag, N, _}) ->
    {words, [reply, {pid, Sender}, "tag", integer_to_list(Tag), "n", integer_to_list(N)]}.

%% Answers the oldest request that a process has taken and not answered, a number of times.
reply(Pid, Tag, N, Times) ->
    case lists:keytake(Pid, 1, requests()) of
        false -> none;
        {value, {_, Ref}, Others} ->
            put(requests, Others),
            [Ref ! reply_message(Tag, N, Ref) || _ <- lists:seq(1, Times)],
            ok
    end.

%% Only the owner can end monitors of groups and timers. In OTP any process can.
own(Ref, What) -> put({owned, Ref}, What).

owns(Ref) -> get({owned, Ref}) =/= undefined.

started(Ref, Target, Delay, Label) ->
    own(Ref, {timer, Target, Delay}),
    Delay =:= "short" andalso await_end_of(Ref),
    {ok, [{Label, Ref}]}.

%% Cancels a timer before it fires, and waits until its time is over. If the timer was faster than this process, the actor
%% receives its message.
cancel_early(Tag) ->
    Ref = erlang:start_timer(?SOON_MS, self(), Tag),
    case erlang:cancel_timer(Ref) of
        false ->
            receive {timeout, Ref, Tag} -> ok end,
            cancel_early(Tag);
        _ ->
            receive after ?SOON_MS + ?SHORT_MS -> ok end,
            own(Ref, {timer, self(), "soon"}),
            Ref
    end.

%% No signal tells when a timer has sent its message to another process.
await_end_of(Ref) ->
    case erlang:read_timer(Ref) of
        false -> true;
        _ -> receive after 1 -> await_end_of(Ref) end
    end.

%% In OTP a timer ends with its receiver, in Atoll with its owner. So Atoll's timer goes on when its receiver is dead.
is_running(Ref) ->
    case get({owned, Ref}) of
        {timer, Target, "long"} when is_pid(Target) -> erlang:read_timer(Ref) =/= false orelse not is_process_alive(Target);
        {timer, _, _} -> erlang:read_timer(Ref) =/= false;
        _ -> false
    end.

activity(true) -> "active";
activity(false) -> "gone".

info(undefined, _) -> none;
info(Info, Calls) ->
    [Status, Trap, Priority, Name, Queue, Links, Monitors, MonitoredBy] = [Value || {_, Value} <- Info],
    Watching = case Calls of
        true -> [];
        false -> ["monitors", {set, [Target || {process, Target} <- Monitors]}, "monitored-by", {set, MonitoredBy}]
    end,
    {words, [Status, "trap", Trap, "priority", Priority, "name", case Name of [] -> "-"; _ -> Name end,
        "queue", integer_to_list(Queue), "links", {set, Links} | Watching]}.
