#!/bin/sh
# What both image builders run inside the tree: a small setting, as in
# packer/kldload-server. build.sh adds a line to make a changed script.
set -e
mkdir -p /etc/ssh/sshd_config.d /etc/bench
cat >/etc/ssh/sshd_config.d/99-image.conf <<'EOF'
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
EOF
systemctl enable ssh.service
