#!/bin/sh
# The official image's contract: no command, or one that begins with an option,
# starts Cassandra; as root it hands the data over to the user cassandra and
# steps down; CASSANDRA_* set the configuration, the same after every restart.
set -eu

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
	set -- cassandra -f "$@"
fi

conf=${CASSANDRA_CONF:-/etc/cassandra}

if [ "$1" = cassandra ] && [ "$(id -u)" = 0 ]; then
	find /var/lib/cassandra /var/log/cassandra "$conf" ! -user cassandra -exec chown cassandra '{}' +
	exec setpriv --reuid=cassandra --regid=cassandra --init-groups -- "$0" "$@"
fi

# The first address that is not the loopback's; hostname -I leaves that out.
own_address() {
	set -- $(hostname -I)
	echo "${1:?cassandra: the container has no address besides the loopback: set CASSANDRA_LISTEN_ADDRESS}"
}

if [ "$1" = cassandra ]; then
	listen=${CASSANDRA_LISTEN_ADDRESS:-auto}
	if [ "$listen" = auto ]; then listen=$(own_address); fi
	broadcast=${CASSANDRA_BROADCAST_ADDRESS:-$listen}
	if [ "$broadcast" = auto ]; then broadcast=$(own_address); fi

	# The files may be mounted, so they are written in place, not replaced.
	yaml=$(
		CASSANDRA_LISTEN_ADDRESS=$listen CASSANDRA_BROADCAST_ADDRESS=$broadcast \
		CASSANDRA_RPC_ADDRESS=${CASSANDRA_RPC_ADDRESS:-0.0.0.0} \
		CASSANDRA_BROADCAST_RPC_ADDRESS=${CASSANDRA_BROADCAST_RPC_ADDRESS:-$broadcast} \
		CASSANDRA_SEEDS=${CASSANDRA_SEEDS:-$broadcast} \
		awk '
			BEGIN {
				n = split("broadcast_address broadcast_rpc_address cluster_name endpoint_snitch listen_address num_tokens rpc_address", keys, " ")
				for (i = 1; i <= n; i++) value[keys[i] ":"] = ENVIRON["CASSANDRA_" toupper(keys[i])]
			}
			{ key = $1 == "#" ? $2 : $1 }
			key in value && value[key] != "" && /^(# )?[a-z]/ { print key " \x27" value[key] "\x27"; next }
			$1 == "-" && $2 == "seeds:" { sub(/seeds:.*/, "seeds: \"" ENVIRON["CASSANDRA_SEEDS"] "\"") }
			{ print }
		' "$conf/cassandra.yaml"
	)
	printf '%s\n' "$yaml" >"$conf/cassandra.yaml"

	rackdc=$(awk -F= '
		$1 == "dc" && ENVIRON["CASSANDRA_DC"] != "" { print "dc=" ENVIRON["CASSANDRA_DC"]; next }
		$1 == "rack" && ENVIRON["CASSANDRA_RACK"] != "" { print "rack=" ENVIRON["CASSANDRA_RACK"]; next }
		{ print }
	' "$conf/cassandra-rackdc.properties")
	printf '%s\n' "$rackdc" >"$conf/cassandra-rackdc.properties"
fi

exec "$@"
