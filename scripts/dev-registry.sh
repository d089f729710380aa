#!/usr/bin/env bash
# A registry on loopback for development: Debian's docker-registry with a Debian image in it, py:1 (python3 and nodejs,
# three layers, about 400 MB).
#
# usage: dev-registry.sh [start [--port N] | stop]
#
# start (the default) makes the image the first time, which takes some minutes and needs the Debian archive, starts the
# registry in the background on a free port or on N, and says what to type. It speaks plain HTTP and knows no users.
# Image, store and log are kept in ${XDG_CACHE_HOME:-~/.cache}/microsandbox/registry; delete the folder to start afresh.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly state=${XDG_CACHE_HOME:-$HOME/.cache}/microsandbox/registry
readonly image=$state/image
usage() {
    echo "dev-registry: error: $1 (usage: dev-registry.sh [start [--port N] | stop])" >&2
    exit 2
}

# The running registry's host:port; fails when there is none. The process must be ours, not a later one of that number.
running_host() {
    local pid host
    read -r pid host 2>/dev/null <"$state/running" || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "docker-registry serve $state/config.yml" || return 1
    echo "$host"
}

stop() {
    local pid
    if running_host >/dev/null; then
        read -r pid _ <"$state/running"
        kill "$pid"
        while kill -0 "$pid" 2>/dev/null; do sleep 0.1; done # its port is free then
        echo "dev-registry: stopped"
    else
        echo "dev-registry: not running"
    fi
    rm -f -- "$state/running"
}

# Standard output: host:port.
start_registry() {
    local port=$1 pid host=
    cat >"$state/config.yml" <<EOF
version: 0.1
log: {level: info}
storage: {filesystem: {rootdirectory: "$state/store"}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port", secret: development}
EOF
    # shellcheck disable=SC2016 # expanded by the inner shell
    setsid --fork bash -c 'echo $$ >"$0/pid"; exec docker-registry serve "$0/config.yml" >"$0/log" 2>&1 </dev/null' "$state"
    while [ -z "$host" ]; do
        host=$(sed -nE 's/.*listening on (127\.0\.0\.1:[0-9]+).*/\1/p' "$state/log" 2>/dev/null | head -n 1)
        pid=$(cat "$state/pid" 2>/dev/null || true)
        if [ -z "$host" ] && [ -n "$pid" ] && ! kill -0 "$pid" 2>/dev/null; then
            echo "dev-registry: error: the registry did not start:" >&2
            tail -n 5 "$state/log" >&2
            exit 1
        fi
        sleep 0.1
    done
    echo "$pid $host" >"$state/running"
    echo "$host"
}

start() {
    local host manifest
    mkdir -p -- "$state"
    exec 9>"$state/lock" # one start at a time; the registry must not inherit it
    flock 9
    if [ ! -e "$image/index.json" ]; then
        echo "dev-registry: making the image (once, some minutes)" >&2
        guest/rootfs/build-debian-image.sh "$image" >&2 9>&-
    fi
    if host=$(running_host); then
        echo "dev-registry: already running" >&2
    else
        rm -f -- "$state/log" "$state/pid"
        host=$(start_registry "$1" 9>&-)
    fi
    skopeo --insecure-policy copy --quiet --preserve-digests --dest-tls-verify=false "oci:$image:1" \
        "docker://$host/py:1" >/dev/null 9>&-
    manifest=$(skopeo inspect --raw --tls-verify=false "docker://$host/py:1" 9>&-)
    cat <<EOF
The registry is at $host and has py:1 ($(grep -o '"application/vnd.oci.image.layer' <<<"$manifest" | wc -l) layers).

  build/bin/msb pull --insecure $host/py:1
  build/bin/msb run $host/py:1 -- python3 -c 'print(6*7)'
  build/bin/msb run $host/py:1

Stop it with: scripts/dev-registry.sh stop
EOF
}

case ${1-start} in
    start)
        port=0
        shift || true
        if [ $# -gt 0 ]; then
            if [ "$1" != --port ] || [ $# -ne 2 ]; then usage "unknown argument '$1'"; fi
            [[ $2 =~ ^[0-9]{1,5}$ ]] || usage "'$2' is no port"
            port=$2
        fi
        start "$port"
        ;;
    stop) [ $# -eq 1 ] || usage "unknown argument '$2'"; stop ;;
    -h | --help) sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}" ;;
    *) usage "unknown argument '$1'" ;;
esac
