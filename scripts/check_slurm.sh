#!/bin/bash
# Run the job array of docs/scale.md on a real Slurm of this machine alone, with two task slots, and compare its results
# with those of a run of one process, byte for byte. One task is requeued in the middle.
#
#   apt-get install slurm-wlm munge && scripts/check_slurm.sh
#
# PYTHON is the interpreter to use (default python3). Everything is made in a temporary folder and removed at the end.
set -euo pipefail

root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d)
chmod 755 "$work"
host=$(hostname -s)
sbin=/usr/sbin

say() { printf '%(%H:%M:%S)T %s\n' -1 "$*"; }
fail() { say "FAILED: $*"; exit 1; }

end() {
    scontrol shutdown >/dev/null 2>&1 || true
    sleep 2
    for daemon in slurmd slurmctld munged; do
        [ ! -s "$work/$daemon.pid" ] || kill "$(cat "$work/$daemon.pid")" 2>/dev/null || true
    done
    sleep 1
    [ -n "${KEEP:-}" ] || rm -rf "$work"
}
trap end EXIT

start_slurm() {
    mkdir "$work/spool" "$work/state"
    read -r first second < <("$python" -c 'import socket
a, b = socket.socket(), socket.socket()
a.bind(("127.0.0.1", 0)); b.bind(("127.0.0.1", 0)); print(a.getsockname()[1], b.getsockname()[1])')
    cat >"$work/slurm.conf" <<CONF
ClusterName=san
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$work/munge.socket
SlurmctldPort=$first
SlurmdPort=$second
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmdSpoolDir=$work/spool
StateSaveLocation=$work/state
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
ReturnToService=2
KillWait=10
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES State=UP
CONF
    export SLURM_CONF=$work/slurm.conf
    (umask 077 && head -c 1024 /dev/urandom >"$work/munge.key")
    "$sbin/munged" --force --key-file="$work/munge.key" --socket="$work/munge.socket" \
        --pid-file="$work/munged.pid" --log-file="$work/munged.log" --seed-file="$work/munged.seed"
    "$sbin/slurmctld"
    "$sbin/slurmd"
    for _ in $(seq 60); do
        [ "$(sinfo -h -o %T 2>/dev/null)" != idle ] || return 0
        sleep 1
    done
    fail "the node doesn't come up: $(tail -n 5 "$work/slurmctld.log" "$work/slurmd.log")"
}

# As a user's folder would be: photos, and `san` on the path. The small model that comes with san stands for the paper's.
prepare() {
    mkdir "$work/bin" "$work/photos"
    printf '#!/bin/sh\nPYTHONPATH=%s${PYTHONPATH:+:$PYTHONPATH} exec %s -m san_cli "$@"\n' "$root" "$python" \
        >"$work/bin/san"
    chmod 755 "$work/bin/san"
    export PATH=$work/bin:$PATH SAN_WEIGHTS=$root/weights/tiny.safetensors SAN_HOME=$work/home HF_HUB_OFFLINE=1
    for copy in a b c; do
        for scene in "$root"/examples/scenes/*.jpg; do
            cp "$scene" "$work/photos/$copy-${scene##*/}"
        done
    done
    printf 'no image' >"$work/photos/damaged.jpg"
    "$python" - "$root/docs/scale.md" >"$work/job.sh" <<'PY'
import re, sys
print(re.search(r"```sh\n(#!/bin/sh\n#SBATCH.*?)```", open(sys.argv[1], encoding="utf-8").read(), re.DOTALL)[1], end="")
PY
}

until_gone() { # job
    for _ in $(seq 1800); do
        [ -n "$(squeue -h -j "$1" 2>/dev/null)" ] || return 0
        # A requeued task would wait for two minutes.
        for waiting in $(squeue -h -r -t PD -o '%i %r' -j "$1" 2>/dev/null | sed -n 's/ BeginTime$//p'); do
            scontrol update "JobId=$waiting" StartTime=now || true
        done
        sleep 1
    done
    squeue
    fail "job $1 doesn't end"
}

same() { diff -r "$work/alone" "$work/$1" && say "$1: the same bytes as alone"; }

prepare
cd "$work"
say "the job, from docs/scale.md:"
sed 's/^/    /' job.sh
[ "$(wc -l <job.sh)" = 6 ] || fail "it hasn't six lines"
say "alone"
OMP_NUM_THREADS=1 san predict photos --vocab coco -o alone || [ $? = 3 ]
start_slurm
sinfo -N -l

say "== the array; a task is requeued once it has done an image"
job=$(sbatch --parsable job.sh)
while ! grep -q . found/.san/journal-1-of-* 2>/dev/null; do
    sleep 0.2
    [ -n "$(squeue -h -j "$job")" ] || fail "the job is gone: $(cat san-*.log)"
done
scontrol requeue "${job}_1" && say "requeued ${job}_1"
squeue -r
san status found && fail "status says that all is done" || say "san status: exit code $?"
until_gone "$job"
for log in san-"$job"-*.log; do say "$log"; sed 's/^/    /' "$log"; done
grep "done before" san-"$job"-1.log && say "task 1 was interrupted, and has gone on"
san status found && fail "a damaged image, and status says 0" || say "san status: exit code $?"
same found

say "== tasks of srun in one job"
sed -e '/--array/d' -e 's/--requeue/--ntasks=2/' -e 's/^san /srun san /' -e 's/-o found/-o by-srun/' job.sh >srun.sh
job=$(sbatch --parsable --output=srun.log srun.sh)
until_gone "$job"
sed 's/^/    /' srun.log
same by-srun

say "== an array with gaps, which none can number"
job=$(sbatch --parsable --array=1,3,7 --output=gaps-%a.log job.sh)
until_gone "$job"
cat gaps-3.log
grep -q "with gaps" gaps-3.log || fail "not told"

say "== later: every task again, on what is finished"
job=$(sbatch --parsable --array=0-1 --output=again-%a.log job.sh)
until_gone "$job"
cat again-*.log
same found
say "all is well"
