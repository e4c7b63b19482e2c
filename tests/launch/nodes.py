"""A Ray cluster of several raylets on this machine, whose nodes come and go as they are told to.

python nodes.py CPUS [CPUS ...]

begins with a head that has no room for workers and a node of so many CPUs for each argument; prints
the address. Then it takes orders from standard input, one a line: `add CPUS` and `kill N`, the N-th
node that was ever added. After each order it prints `done`. It ends, and all nodes with it, when
its input does.
"""

from __future__ import annotations

import os
import sys

from ray.cluster_utils import Cluster

STORE = 100 * 2**20
"""Bytes of each node's object store."""


def main(cpus: list[int]) -> None:
    """Does as it is told."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=count, object_store_memory=STORE) for count in cpus]
    print(cluster.address, flush=True)
    for order in sys.stdin:
        what, number = order.split()
        if what == "add":
            nodes.append(cluster.add_node(num_cpus=int(number), object_store_memory=STORE))
        else:
            cluster.remove_node(nodes[int(number)], allow_graceful=False)
        print("done", flush=True)
    cluster.shutdown()


if __name__ == "__main__":
    main([int(count) for count in sys.argv[1:]])
