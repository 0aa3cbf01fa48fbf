# What the .deb and the .rpm install, and where. Read by packaging/deb.sh and packaging/rpm.sh.
# shellcheck shell=bash

lay_out() { # TREE FOLDER_OF_THE_THREE_FILES LIBDIR TARGET
  local tree=$1 from=$2 libdir=$3 target=$4 doc page file
  doc=$tree/usr/share/doc/mosquitto-auth0

  install -D -m 644 "$from/$PLUGIN" "$tree$libdir/$PLUGIN"
  install -m 644 "$from/$CTRL" "$tree$libdir/$CTRL" # where mosquitto_ctrl finds its modules
  install -D -m 755 "$from/$TOOL" "$tree/usr/bin/$TOOL"
  install -D -m 644 packaging/completions/mosquitto-auth0 "$tree/usr/share/bash-completion/completions/mosquitto-auth0"
  install -D -m 644 packaging/completions/mosquitto-auth0.fish \
    "$tree/usr/share/fish/vendor_completions.d/mosquitto-auth0.fish"

  install -d "$tree/etc/mosquitto/conf.d"
  sed "s|@LIBDIR@|$libdir|" packaging/auth0.conf >"$tree/etc/mosquitto/conf.d/auth0.conf"
  ! grep -n '^[^#]' "$tree/etc/mosquitto/conf.d/auth0.conf" || die "packaging/auth0.conf has a line that is no comment"
  install -D -m 644 packaging/logrotate "$tree/etc/logrotate.d/mosquitto-auth0"
  install -D -m 644 packaging/apparmor/mosquitto-auth0 "$tree/etc/apparmor.d/abstractions/mosquitto-auth0"
  install -D -m 644 packaging/systemd/mosquitto-auth0.conf \
    "$tree/usr/lib/systemd/system/mosquitto.service.d/mosquitto-auth0.conf"

  for page in man/*.[157]; do
    install -d "$tree/usr/share/man/man${page##*.}"
    gzip -9n <"$page" >"$tree/usr/share/man/man${page##*.}/${page##*/}.gz"
  done
  # What the README points at lies beside it. Named by their kind: the source may be no checkout of git's,
  # and what running the samples leaves beside them is none of them.
  for file in README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md docs/*.{md,svg,png,json,yml} examples/README.md \
    examples/nodejs/*.js* examples/python/*.{py,txt} examples/docker/*; do
    install -D -m 644 "$file" "$doc/$file"
  done
  install -D -m 644 packaging/systemd/hardening.conf "$doc/examples/systemd/hardening.conf"
  packaging/third-party.sh "$target" | gzip -9n >"$doc/third-party.gz"
}

# What is left of those paths when the package is removed, since an operator may have edited it.
# shellcheck disable=SC2034
CONFIGURATION=(/etc/mosquitto/conf.d/auth0.conf /etc/logrotate.d/mosquitto-auth0
  /etc/apparmor.d/abstractions/mosquitto-auth0)

# The guard of the removal, whose text has a place for the plugin's folder.
removal_guard() { # LIBDIR
  sed "s|@LIBDIR@|$1|" packaging/debian/prerm
}
