#!/bin/bash
# The official image's contract: options are mariadbd's; as root it hands the
# data over to the user mysql and steps down; an empty data directory is made
# from MARIADB_* (or MYSQL_*, or either with _FILE), then the files of
# /docker-entrypoint-initdb.d are run, then the server starts.
set -euo pipefail
shopt -s nullglob

note() { echo "[entrypoint] $*"; }
fail() { echo "[entrypoint] $*" >&2; exit 1; }

# setting NAME [DEFAULT]: MARIADB_NAME, else MYSQL_NAME, else the file named by
# either with _FILE, else the default.
setting() {
	local name
	for name in "MARIADB_$1" "MYSQL_$1"; do
		local file="${name}_FILE"
		if [ -n "${!name:-}" ] && [ -n "${!file:-}" ]; then fail "both $name and $file are set: keep one"; fi
		if [ -n "${!name:-}" ]; then printf '%s' "${!name}"; return; fi
		if [ -n "${!file:-}" ]; then printf '%s' "$(<"${!file}")"; return; fi
	done
	printf '%s' "${2:-}"
}

# quote VALUE: as a string literal, in the default SQL mode.
quote() {
	local v=${1//\\/\\\\}
	printf "'%s'" "${v//\'/\\\'}"
}
# name VALUE: as an identifier.
name() { printf '`%s`' "${1//\`/\`\`}"; }

# options COMMAND…: sets datadir, socket and port to what mariadbd would use. It
# is asked once: starting it takes longer than all else that is left to do.
options() {
	local key value
	while read -r key value; do
		case $key in datadir | socket | port) declare -g "$key=$value" ;; esac
	done < <("$@" --verbose --help 2>/dev/null | awk '/^(datadir|socket|port)[ \t]/')
	[ -n "${datadir:-}" ] || fail "mariadbd refuses its options: $("$@" --verbose --help 2>&1 >/dev/null | tail -3)"
	datadir=${datadir%/}
	export FLIX_DATADIR=$datadir FLIX_SOCKET=$socket FLIX_PORT=$port
}

client() { mariadb --protocol=socket -uroot -hlocalhost --socket="$socket" --database=mysql --binary-mode "$@"; }

# identified PLAIN HASH
identified() {
	if [ -n "$2" ]; then printf 'IDENTIFIED BY PASSWORD %s' "$(quote "$2")"; else printf 'IDENTIFIED BY %s' "$(quote "$1")"; fi
}

# The statements that make users and databases, one a line. What is about this
# server alone is kept out of the binary log; the rest replicas see too. The
# server leaves them at the first that fails, so the health check's account is
# the last: a server without all of it is never healthy.
accounts() {
	echo 'SET SESSION SQL_LOG_BIN = 0;'
	echo "DROP USER IF EXISTS root@'127.0.0.1', root@'::1';"
	echo "EXECUTE IMMEDIATE CONCAT('DROP USER IF EXISTS root@', QUOTE(@@hostname));"
	if [ -z "$root_hash" ]; then echo "SET PASSWORD FOR root@localhost = PASSWORD($(quote "$root_password"));"; fi
	if [ "$root_host" != localhost ]; then
		echo "CREATE USER IF NOT EXISTS root@$(quote "$root_host") $(identified "$root_password" "$root_hash");"
		echo "GRANT ALL ON *.* TO root@$(quote "$root_host") WITH GRANT OPTION;"
	fi
	echo 'SET SESSION SQL_LOG_BIN = 1;'

	if [ -n "$database" ]; then echo "CREATE DATABASE IF NOT EXISTS $(name "$database");"; fi
	if [ -n "$user" ] && [ -n "$password$password_hash" ]; then
		echo "CREATE USER IF NOT EXISTS $(quote "$user")@'%' $(identified "$password" "$password_hash");"
		if [ -n "$database" ]; then
			local pattern=${database//_/\\_}
			echo "GRANT ALL ON $(name "$pattern").* TO $(quote "$user")@'%';"
		fi
	fi
	if [ -n "$repl_user" ] && [ -z "$master" ]; then
		echo "CREATE USER IF NOT EXISTS $(quote "$repl_user")@'%' $(identified "$repl_password" "$repl_hash");"
		echo "GRANT REPLICATION REPLICA ON *.* TO $(quote "$repl_user")@'%';"
	fi
	if [ -n "$master" ]; then
		echo "CHANGE MASTER TO MASTER_HOST=$(quote "$master"), MASTER_PORT=$master_port, MASTER_USER=$(quote "$repl_user"), MASTER_PASSWORD=$(quote "$repl_password"), MASTER_CONNECT_RETRY=10;"
		echo 'START REPLICA;'
	fi

	echo 'SET SESSION SQL_LOG_BIN = 0;'
	for h in 127.0.0.1 ::1 localhost; do
		echo "CREATE USER IF NOT EXISTS healthcheck@'$h' IDENTIFIED BY $(quote "$health_password");"
		echo "GRANT USAGE ON *.* TO healthcheck@'$h';"
	done
}

run_init_files() {
	local f
	for f; do
		case $f in
		*.sh)
			note "running $f"
			# shellcheck disable=SC1090
			if [ -x "$f" ]; then "$f"; else . "$f"; fi
			;;
		*.sql) note "running $f"; docker_process_sql <"$f" ;;
		*.sql.gz) note "running $f"; gunzip -c "$f" | docker_process_sql ;;
		*.sql.xz) note "running $f"; xz -dc "$f" | docker_process_sql ;;
		*.sql.zst) note "running $f"; zstd -dc "$f" | docker_process_sql ;;
		*) note "ignoring $f" ;;
		esac
	done
}
# The name scripts in /docker-entrypoint-initdb.d know.
docker_process_sql() { MYSQL_PWD=$root_password mariadb --protocol=socket -uroot -hlocalhost --socket="$socket" ${database:+--database="$database"} "$@"; }

check_settings() {
	if [ -z "$root_password$root_hash$(setting ALLOW_EMPTY_ROOT_PASSWORD "$(setting ALLOW_EMPTY_PASSWORD)")$(setting RANDOM_ROOT_PASSWORD)" ]; then
		fail 'the data directory is empty and no root password is given: set MARIADB_ROOT_PASSWORD, MARIADB_ROOT_PASSWORD_HASH, MARIADB_ALLOW_EMPTY_ROOT_PASSWORD or MARIADB_RANDOM_ROOT_PASSWORD'
	fi
	if [ -n "$master" ] && { [ -z "$repl_user" ] || [ -z "$repl_password" ]; }; then
		fail 'MARIADB_MASTER_HOST makes this a replica, which needs MARIADB_REPLICATION_USER and MARIADB_REPLICATION_PASSWORD'
	fi
	if [ -z "$master" ] && [ -n "$repl_user" ] && [ -z "$repl_password$repl_hash" ]; then
		fail 'MARIADB_REPLICATION_USER needs MARIADB_REPLICATION_PASSWORD or MARIADB_REPLICATION_PASSWORD_HASH'
	fi
}

# With a hash nobody here knows the password any more: a client needs it to be
# the last thing.
late_root_password() {
	[ -n "$root_hash" ] || return 0
	echo 'SET SESSION SQL_LOG_BIN = 0;'
	echo "SET PASSWORD FOR root@localhost = $(quote "$root_hash");"
}

# The files of an empty server, made when the image was, for the defaults.
seed=/usr/share/mariadb-seed

# seeded ARGS…: whether they fit what the server is told now. What shapes files
# is told by few options; any setting in a file of configuration may.
seeded() {
	[ -d "$seed/files" ] && cmp -s "$seed/defaults" <(my_print_defaults --mysqld) || return 1
	local a
	for a; do
		case ${a//_/-} in
		--innodb-page-size* | --innodb-data-* | --innodb-undo-* | --innodb-log-group-* | --innodb-encrypt* | --innodb-default-encrypt* | --innodb-file-per-table* | \
			--skip-innodb* | --innodb-checksum* | --innodb-compression* | --lower-case-table-names* | --aria-* | --plugin-* | --file-key-* | --default-storage-engine* | --defaults* | --character-set-filesystem* | --user*)
			# Aria's cache is no file.
			case ${a//_/-} in --aria-pagecache-buffer-size*) ;; *) return 1 ;; esac
			;;
		esac
	done
}

make_files() {
	if seeded "$@"; then
		note 'taking the data directory from the image'
		# The folder that says that there is data comes last.
		cp -R --no-preserve=ownership "$seed/files/." "$datadir/.seed"
		find "$datadir/.seed" -mindepth 1 -maxdepth 1 ! -name mysql -exec mv -t "$datadir" {} +
		mv "$datadir/.seed/mysql" "$datadir/"
		rmdir "$datadir/.seed"
		return
	fi
	note 'making the data directory'
	mariadb-install-db --datadir="$datadir" --rpm --auth-root-authentication-method=normal "${@:2}" \
		--skip-test-db --default-time-zone=SYSTEM --enforce-storage-engine= --skip-log-bin --expire-logs-days=0 >/dev/null
}

# nothing_to_run ARGS…: whether the accounts are all that is to be made.
nothing_to_run() {
	local a files=(/docker-entrypoint-initdb.d/*)
	[ ${#files[@]} = 0 ] && [ -z "$master" ] && [ -n "${MARIADB_INITDB_SKIP_TZINFO:-${MYSQL_INITDB_SKIP_TZINFO:-}}" ] || return 1
	for a; do case ${a//_/-} in --init-file* | --skip-grant-tables* | --defaults*) return 1 ;; esac; done
}

initialise() {
	root_password=$(setting ROOT_PASSWORD)
	root_hash=${MARIADB_ROOT_PASSWORD_HASH:-}
	root_host=$(setting ROOT_HOST %)
	database=$(setting DATABASE)
	user=$(setting USER)
	password=$(setting PASSWORD)
	password_hash=${MARIADB_PASSWORD_HASH:-}
	repl_user=$(setting REPLICATION_USER)
	repl_password=$(setting REPLICATION_PASSWORD)
	repl_hash=${MARIADB_REPLICATION_PASSWORD_HASH:-}
	master=$(setting MASTER_HOST)
	master_port=$(setting MASTER_PORT 3306)
	check_settings
	if [ -n "$(setting RANDOM_ROOT_PASSWORD)" ]; then
		root_password=$(pwgen -c -n -1 32)
		note "GENERATED ROOT PASSWORD: $root_password"
	fi
	health_password=$(pwgen -c -n -1 32)

	make_files "$@"
	(umask 077 && printf '[mariadb-admin]\nport=%s\nhost=127.0.0.1\nuser=healthcheck\npassword=%s\nprotocol=tcp\n' "$port" "$health_password" >"$datadir/.my-healthcheck.cnf")
	if nothing_to_run "$@"; then
		# The server itself makes the accounts, before it accepts a connection.
		# It reads them from a pipe, so that no password is left on a disk.
		exec 9< <(late_root_password; accounts)
		exec "$@" --init-file=/dev/fd/9
	fi

	"$@" --skip-networking --default-time-zone=SYSTEM --socket="$socket" --wsrep_on=OFF --expire-logs-days=0 \
		--loose-innodb_buffer_pool_load_at_startup=0 --skip-slave-start &
	local pid=$! i
	for i in $(seq 300); do
		if client -e 'SELECT 1' >/dev/null 2>&1; then break; fi
		kill -0 "$pid" 2>/dev/null || fail 'the server stopped while it was being set up: see its lines above'
		sleep 0.1
	done
	if [ -z "${MARIADB_INITDB_SKIP_TZINFO:-${MYSQL_INITDB_SKIP_TZINFO:-}}" ]; then
		mariadb-tzinfo-to-sql --skip-write-binlog /usr/share/zoneinfo | client
	fi
	accounts | client
	run_init_files /docker-entrypoint-initdb.d/*
	if [ -n "$root_hash" ]; then late_root_password | client; fi
	kill "$pid"
	wait "$pid"
	note 'the data directory is ready'
}

if [ $# -gt 0 ] && [ "${1:0:1}" = - ]; then set -- mariadbd "$@"; fi

wants_help() {
	local a
	for a; do case $a in -\? | --help | --print-defaults | -V | --version) return 0 ;; esac; done
	return 1
}

if { [ "${1:-}" = mariadbd ] || [ "${1:-}" = mysqld ]; } && ! wants_help "$@"; then
	if [ -n "${FLIX_DATADIR:-}" ]; then
		datadir=$FLIX_DATADIR socket=$FLIX_SOCKET port=$FLIX_PORT
	else
		options "$@"
	fi
	mkdir -p "$datadir"
	if [ "$(id -u)" = 0 ]; then
		find "$datadir" ! -user mysql -exec chown mysql:mysql {} +
		find "${socket%/*}" -maxdepth 0 ! -user mysql -exec chown mysql:mysql {} +
		exec setpriv --reuid=mysql --regid=mysql --init-groups -- "$0" "$@"
	fi
	if [ ! -d "$datadir/mysql" ]; then initialise "$@"; fi
fi
exec "$@"
