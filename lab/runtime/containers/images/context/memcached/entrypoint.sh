#!/bin/sh
# Arguments that are options are memcached's own, as in the official image.
set -eu
case ${1:-} in
-*) set -- memcached "$@" ;;
esac
exec "$@"
