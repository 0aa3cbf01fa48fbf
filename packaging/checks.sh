# What the tests of packages share: checks that are counted, what clients can do, a tenant, free ports. Every test sets
# WORK, a folder of its own. One with a tenant sets TENANT, its program; one with clients defines client(), which runs a
# program of Mosquitto's against the broker.
# shellcheck shell=bash

# shellcheck disable=SC2034
PASSED=0 FAILED=0 TENANT_PID=''

check() { # WHAT COMMAND...
  local what=$1
  shift
  if "$@" >"$WORK/out" 2>&1; then
    PASSED=$((PASSED + 1))
    printf 'ok     %s\n' "$what"
  else
    FAILED=$((FAILED + 1))
    printf 'FAILED %s\n' "$what"
    sed 's/^/         /' "$WORK/out"
  fi
}

not() { ! "$@"; }

quietly() { # COMMAND... : its output only if it fails, which ends everything
  "$@" >"$WORK/out" 2>&1 || { tail -n 30 "$WORK/out" >&2; die "failed: $*"; }
}

within() { # SECONDS COMMAND... : asks again until it is so
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < end)) || return 1
    sleep 0.05
  done
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

stop() { # PID of a child of ours, or nothing
  [[ -n $1 ]] || return 0
  kill "$1" 2>/dev/null || true
  within 20 is_gone "$1" || kill -KILL "$1" 2>/dev/null || true
  wait "$1" 2>/dev/null || true
}

# ---- the clients ----

publish() { client mosquitto_pub -q 1 -r -m "hello from $1" -i "$1" "${@:2}"; } # DEVICE ARGUMENT...
receives() { # MESSAGE DEVICE ARGUMENT... : as the first one
  [[ $(client mosquitto_sub -q 1 -C 1 -W 30 -F '%t: %p' -i "$2" "${@:3}" | tee /dev/stderr) == "$1" ]]
}
is_denied() { # PROGRAM ARGUMENT... : let in, but not let do that (mosquitto_pub only says so)
  client "$@" >"$WORK/said" 2>&1 || true
  tee /dev/stderr <"$WORK/said" | grep -qi -e 'failed: not authori[sz]ed' -e 'requests were denied'
}
is_refused() { # PROGRAM ARGUMENT... : not let in
  not client "$@" >"$WORK/said" 2>&1 &&
    tee /dev/stderr <"$WORK/said" | grep -qiE 'connection.*(not authori[sz]ed|bad user name)' # as 2.0 and 2.1 say it
}

# ---- the tenant ----

start_tenant() {
  "$TENANT" --dir "$WORK" --forever --device d1 'a password' 'devices/d1/#' --device all 'another' 'devices/#' \
    </dev/null >"$WORK/tenant" 2>"$WORK/tenant.err" &
  TENANT_PID=$!
  within 30 tenant_is_up || { cat "$WORK/tenant.err"; die "the tenant does not start"; }
}
tenant_is_up() { [[ -n $(token all) ]]; }
its() { sed -n "s/^plugin_opt_$1 //p" "$WORK/tenant"; } # NAME of an option
subject() { cut -d. -f2 | tr '_-' '/+' | base64 -d 2>/dev/null | sed 's/.*"sub":"\([^"]*\)".*/\1/'; } # of a token
token() { awk -v device="$1" '$1 == "username" { at = $2 } $1 == "token" && at == device { print $2 }' "$WORK/tenant"; }

# A certificate for the broker, signed by itself: WORK/server.pem, WORK/server.key.
make_certificate() {
  quietly openssl req -x509 -newkey rsa:2048 -nodes -days 2 -keyout "$WORK/server.key" -out "$WORK/server.pem" \
    -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1
}

free_port() { # from below the range that the system gives to clients
  local port
  until port=$((10240 + RANDOM % 20000)) && ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  printf '%d\n' "$port"
}
