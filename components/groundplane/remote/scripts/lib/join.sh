# shellcheck shell=bash
# A host that joins: what it waits for, and what an earlier life of it left.
# Data: .name .address .endpoint

await_cluster() {
  local server
  server=$(endpoint_url)
  wait_until 120 "an API server answers at $server (a join never founds a cluster)" \
    curl -sfk --max-time 5 -o /dev/null "$server/readyz"
}

# This host is blank, so a member or Node of its name is what an earlier life of it left. etcd
# would refuse every addition while that voter stays silent.
remove_own_ghost() {
  etcd_remove_own " of this host's earlier life"
  kube delete node "$(data .name)" --ignore-not-found >/dev/null
}
