#!/bin/bash
# BEAM anchors: compiles src/*.erl, runs every case of cases.txt and start-up, prints a table.
#   ./run_all.sh                 everything (under 4 minutes on 2 quiet cores)
#   ONLY='pingpong|ring' ./run_all.sh      only cases whose line matches the regular expression
#   REPS=n                       that many repetitions of every case instead of those in cases.txt
#   NICE=-15                     run at this nice level (root): keeps background builds off the cores
#   QUIET=s                      before each repetition wait up to s seconds for an idle machine (not in the 4 minutes)
#   WORK=dir                     where build products and results go (results/raw-STAMP.txt, results/table-STAMP.md)
# Raw lines are NAME VALUE UNIT OTHERS OWN; another runtime joins by printing the same names.
cd "$(dirname "$0")" || exit 1
[ -z "$NICE" ] || renice -n "$NICE" -p $$ > /dev/null
here=$PWD; work=${WORK:-${TMPDIR:-/tmp}/atoll-bench-erlang}; stamp=$(date +%Y%m%d-%H%M%S); mkdir -p "$work/ebin" "$work/results"; raw=$work/results/raw-$stamp.txt; tab=$work/results/table-$stamp.md
erlc -o "$work/ebin" src/*.erl || exit 1
only=${ONLY:-.}; tmp=$(mktemp -d); trap 'rm -rf "$tmp"' EXIT
vm() { local s=$1; shift; timeout 200 erl +S"$s":"$s" -boot start_clean -noshell -noinput -pa "$work/ebin" "$@"; }
t0=$(date +%s); : > "$raw"
grep -v '^#' cases.txt | grep -E -- "$only" | sed '/^$/d' > "$tmp/cases"
# One VM per (schedulers, module); the memory cases get one VM per repetition.
awk -v d="$tmp" -v reps="$REPS" '{ s=$1; if (reps != "") $2=reps; m=$3
  if (s == "m") { for (i = 0; i < $2; i++) { f = d "/vm." sprintf("%03d", ++n) ".2P"; l = $0; sub(/^m [0-9]+/, "1", l); print l > f; close(f) } next }
  k = s "." m; if (!(k in file)) file[k] = d "/vm." sprintf("%03d", ++n) "." s
  l = $0; sub(/^[0-9]+P? /, "", l); print l > file[k] }' "$tmp/cases"
for f in "$tmp"/vm.*; do
  [ -e "$f" ] || continue
  s=${f##*.}; fl=(); case $s in *P) s=${s%P}; fl=(+P 2000000);; esac   # P: 1M processes and more
  vm "$s" "${fl[@]}" -eval "b:go(\"$f\")." >> "$raw" 2>&1
done
if echo startup | grep -Eq -- "$only"; then             # start-up of an empty VM
  for _ in $(seq "${REPS:-5}"); do
    /usr/bin/time -f '%e %M' -o "$tmp/t" erl +S2:2 -boot start_clean -noshell -noinput -eval 'halt(0).'
    awk '{ print "startup_wall", $1 * 1000, "ms -"; print "startup_maxrss", $2 / 1024, "MiB -" }' "$tmp/t" >> "$raw"
  done
fi
{ echo "BEAM anchors, $(date -u +%FT%TZ), $(erl -noshell -eval 'io:put_chars(string:trim(erlang:system_info(system_version))),halt().')"
  echo "machine: $(nproc) cores, $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2), Linux $(uname -r); load average $(cut -d' ' -f1-3 /proc/loadavg); took $(( $(date +%s) - t0 )) s"
  echo; ./table.sh "$raw"; } | tee "$tab"
