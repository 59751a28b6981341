//! inspect: inspects processes, and suspends one. The command line has to grant both: `--allow-inspect`, `--allow-debug`.
//!
//! It shows the information that a process can get about itself and others, and that a suspended process makes no progress.

use std::error::Error;
use std::time::Duration;

use atoll_guest::inspect::{self, ProcessInfo, Status};
use atoll_guest::{
    Pid, Spawn, debug, hibernate, link, monitor, println, register, self_pid, sleep, yield_now,
};

atoll_guest::entry!(main);

fn main() -> Result<(), Box<dyn Error>> {
    let me = self_pid();
    let busy = Spawn::new().label("busy").function(spin, ())?;
    link(busy);
    monitor(busy);
    register("main", me)?;

    println!("main:");
    // This is advice for the next wait of this process, further down.
    hibernate();
    let info = info_of(me)?;
    println!("  status: {}, priority: {}", info.status, info.priority);
    println!("  program: {}, name: {:?}", info.program, info.name);
    println!(
        "  links: {}, monitors: {}",
        info.links.len(),
        info.monitors.len()
    );
    println!(
        "  traps exits: {}, hibernates: {}",
        info.trap_exit, info.hibernates
    );

    println!("busy:");
    let info = info_of(busy)?;
    println!(
        "  label: {:?}, spawned by main: {}",
        info.label,
        info.parent == Some(me)
    );
    println!(
        "  linked to main: {}, monitored by main: {}",
        info.links == [me],
        info.monitored_by == [me]
    );
    wait_for_progress(busy)?;
    println!("  it makes progress");
    println!("  suspended: {}", debug::suspend(busy));
    let before = info_of(busy)?;
    println!("  it is suspended: {}", before.status == Status::Suspended);
    // This time is enough for many turns, and the suspended process gets none of them.
    sleep(Duration::from_millis(20));
    let reductions = info_of(busy)?.reductions - before.reductions;
    println!("  reductions meanwhile: {reductions}");
    println!("  resumed: {}", debug::resume(busy));
    wait_for_progress(busy)?;
    println!("  it makes progress");
    println!("  resumed once more: {}", debug::resume(busy));

    println!("all:");
    println!("  main suspends itself: {}", debug::suspend(me));
    let processes = inspect::processes();
    println!(
        "  both are listed: {}",
        [me, busy].iter().all(|pid| processes.contains(pid))
    );
    let counters = inspect::counters();
    println!(
        "  spawned: {}, crashed: {}",
        counters.spawned, counters.crashed
    );
    println!("  names: {}", counters.names);
    Ok(())
}

fn info_of(process: Pid) -> Result<ProcessInfo, Box<dyn Error>> {
    inspect::info(process).ok_or_else(|| format!("{process} has ended").into())
}

/// Returns when the process has used more reductions than before.
fn wait_for_progress(process: Pid) -> Result<(), Box<dyn Error>> {
    let before = info_of(process)?.reductions;
    while info_of(process)?.reductions == before {
        yield_now();
    }
    Ok(())
}

/// Never waits.
fn spin(_: ()) {
    loop {
        std::hint::spin_loop();
    }
}
