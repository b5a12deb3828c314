#!/bin/sh
# healthcheck.sh --connect: succeeds once the server answers on TCP, which the
# temporary server of a first start does not.
set -eu
case ${1:---connect} in
--connect) exec mariadb-admin --defaults-file="${MARIADB_DATADIR:-/var/lib/mysql}/.my-healthcheck.cnf" ping --silent ;;
*)
	echo "healthcheck.sh: only --connect is known" >&2
	exit 2
	;;
esac
