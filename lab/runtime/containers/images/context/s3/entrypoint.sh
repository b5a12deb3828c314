#!/bin/sh
# Runs versitygw as its official image does: arguments go to the binary as they
# are; without any, VGW_BACKEND and its companions make the command line.
set -eu

bin=${VGW_BINARY:-/usr/local/bin/versitygw}
if [ $# -gt 0 ]; then
	exec "$bin" "$@"
fi

case ${VGW_BACKEND:-} in
posix | scoutfs | s3 | azure | plugin | iam) ;;
'')
	echo "s3: give versitygw's arguments, or set VGW_BACKEND to posix, scoutfs, s3, azure, plugin or iam" >&2
	exit 1
	;;
*)
	echo "s3: VGW_BACKEND is '$VGW_BACKEND'; it may be posix, scoutfs, s3, azure, plugin or iam" >&2
	exit 1
	;;
esac

# Global flags come before the backend's name, its own after it. The two _ARGS
# are split at blanks, by contract.
# shellcheck disable=SC2086
set -- ${VGW_ARGS:-} "$VGW_BACKEND" ${VGW_BACKEND_ARG:+"$VGW_BACKEND_ARG"} ${VGW_BACKEND_ARGS:-}
exec "$bin" "$@"
