#!/bin/bash
# The official image's contract: no command, or one that begins with an option,
# starts OpenSearch, and never as root. There is no security plugin, as in the
# official image with DISABLE_SECURITY_PLUGIN=true.
# bash, because a POSIX shell drops variables with dots in their names.
set -eu
umask 0002

if [ $# -eq 0 ] || [ "${1#-}" != "$1" ]; then
	set -- opensearch "$@"
fi
if [ "$1" = opensearch ] && [ "$(id -u)" = 0 ]; then
	echo 'opensearch: it does not run as root: start the container as another user' >&2
	exit 1
fi
exec "$@"
