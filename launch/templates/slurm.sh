#!/usr/bin/env bash
# A search on the nodes of a Slurm job: starts Ray there, searches, and goes on in the next job when
# the time is over.
#
# State: run by us with Slurm 22.05 and Ray 2.60, in a job of two nodes that were one machine, put
# back in the queue three times by its time limit. Separate machines, folders that they share, and
# site configurations were not run by us; GPUs never.
#
# Edit what is marked EDIT. Start it, and again to go on after anything stopped it:
#
#     sbatch slurm.sh
#
# See the run while it goes on, and once no job writes it:
#
#     tail -f actsearch-JOB.log
#     actsearch top runs/NAME
#
# Stop it, to be gone on with later (trials under way may end):
#
#     scancel --batch --signal=TERM JOB
#
# A plain `scancel JOB` takes Ray away first: it loses the trials under way, and no more.
#
# Security. Whoever reaches Ray's ports and has the token runs code as you on these nodes. The token
# is new in every job, in a file that only you can read, and gone with the job; traffic is not
# encrypted, and the ports listen on every network of the nodes. No dashboard, no public port.

#SBATCH --job-name=actsearch
#SBATCH --nodes=2                     # EDIT
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16            # EDIT: cores of a node
#SBATCH --time=08:00:00               # EDIT
##SBATCH --partition=EDIT-PARTITION
##SBATCH --account=EDIT-ACCOUNT
##SBATCH --gpus-per-node=4            # EDIT: GPUs (not run by us), with --gpus-per-worker below
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=actsearch-%j.log

set -euo pipefail

# shellcheck source=/dev/null
source "$HOME/actsearch-env/bin/activate" # EDIT: where every node has actsearch

search=(
    actsearch search --run-dir "$SLURM_SUBMIT_DIR/runs/NAME" # EDIT: where the next job finds it too
    --preset cifar10 --strategy controller --trials 10000    # EDIT: what to search
    --workers auto                                           # EDIT: for GPUs --gpus-per-worker 1
)
wait_s=300                                    # EDIT: how long the nodes may take to start Ray
private=$HOME/.actsearch/job-$SLURM_JOB_ID    # EDIT: a folder that all nodes see
files=/tmp/actsearch-$SLURM_JOB_ID            # EDIT: a folder that every node has for itself
read -r head_ip _ < <(hostname -I)            # EDIT: if the nodes share another network than this

# A cluster of this job's own: its token, its files and its ports are nobody else's.
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$private/token
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
everywhere=(srun --overlap --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES")
steps=()
searching=""
stopped=""

over() { # Ends Ray on the nodes and removes what only this job needed.
    trap "" TERM INT USR1
    for step in "${steps[@]}"; do kill "$step" 2>/dev/null || true; done
    wait
    "${everywhere[@]}" rm -rf "$files" || true
    rm -rf "$private"
}
# shellcheck disable=SC2329 # called by a signal
stop() { # SIGTERM: somebody wants it to stop. SIGUSR1: Slurm says that the time is nearly over.
    stopped=$1
    interrupted=1
    if [ -z "$searching" ]; then exit 3; fi
    kill -TERM "$searching" 2>/dev/null || true
}
trap over EXIT
trap "stop asked" TERM INT
trap "stop time" USR1

umask 077
rm -rf "$private"
mkdir -p "$private"
# shellcheck disable=SC2016 # for the shell on the node
# Ray opens its own folder to everybody, so it gets one inside of ours.
"${everywhere[@]}" sh -c 'rm -rf "$0" && mkdir "$0"' "$files"
python -P -c "import secrets; print(secrets.token_hex(32))" >"$RAY_AUTH_TOKEN_PATH"

# This script runs on the first node of the job.
read -r head < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
read -r port client_port < <(python -P -c "
from socket import socket
with socket() as one, socket() as two:
    one.bind(('', 0)), two.bind(('', 0))
    print(one.getsockname()[1], two.getsockname()[1])")
any_ports=(--min-worker-port=0 --max-worker-port=0 --dashboard-agent-listen-port=0)

# One core of the head is the driver's.
cores=$((SLURM_CPUS_PER_TASK > 1 ? SLURM_CPUS_PER_TASK - 1 : 1))
srun --overlap --nodes=1 --ntasks=1 --nodelist="$head" \
    ray start --head --node-ip-address="$head_ip" --port="$port" \
    --ray-client-server-port="$client_port" "${any_ports[@]}" --num-cpus="$cores" \
    --temp-dir="$files/ray" --include-dashboard=false --disable-usage-stats --log-color=false --block &
steps+=($!)

nodes_there() { # How many nodes Ray has, seen from here.
    python -P -c "
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR')
print(sum(node['Alive'] for node in ray.nodes()))" "$head_ip:$port" 2>/dev/null || echo 0
}
until_there() { # Waits for so many nodes; a step that has ended is a failure.
    local last=$((SECONDS + wait_s))
    while (($(nodes_there) < $1)); do
        for step in "${steps[@]}"; do
            kill -0 "$step" 2>/dev/null || { echo "Ray did not start on a node" >&2; exit 1; }
        done
        ((SECONDS < last)) || { echo "not all nodes are there after $wait_s s" >&2; exit 1; }
        sleep 1
    done
}
until_there 1
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others)); then
    srun --overlap --nodes="$others" --ntasks="$others" --exclude="$head" --kill-on-bad-exit=0 \
        ray start --address="$head_ip:$port" "${any_ports[@]}" \
        --num-cpus="$SLURM_CPUS_PER_TASK" --log-color=false --block &
    steps+=($!)
    until_there "$SLURM_JOB_NUM_NODES"
fi

"${search[@]}" --address "$head_ip:$port" &
searching=$!
code=0
interrupted=1
while ((interrupted)); do
    interrupted=0
    code=0
    wait "$searching" || code=$?
done

# 0: done. 3: stopped, to be gone on with: by this job run again if the time was over.
if ((code == 3)) && [ "$stopped" = time ]; then
    trap - EXIT
    over
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
