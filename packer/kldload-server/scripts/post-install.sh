#!/bin/bash
# Runs inside the root tree, after the packages of the profile are installed.
# There is no network: apt-get installs from the darksite.
set -euo pipefail

echo "=== Post-install: ${IMAGE_NAME} ${IMAGE_VERSION} (${TARGET_DISTRO}) ==="

# The core profile stays at the least; its darksite may not have these.
if [ "${INSTALL_PROFILE}" != core ]; then
    apt-get install -y -q htop tmux vim ncat
fi

mkdir -p /etc/ssh/sshd_config.d
cat > /etc/ssh/sshd_config.d/99-image.conf << 'EOF'
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
EOF

# The time comes from SOURCE_DATE_EPOCH, so that two builds of the same inputs
# give the same bytes.
mkdir -p /etc/kldload
cat > /etc/kldload/image-metadata.json << EOF
{
  "image_name": "${IMAGE_NAME}",
  "image_version": "${IMAGE_VERSION}",
  "target_distro": "${TARGET_DISTRO}",
  "build_timestamp": "$(date -u -d "@${SOURCE_DATE_EPOCH:-0}" +%Y-%m-%dT%H:%M:%SZ)",
  "builder": "kldload"
}
EOF

echo "=== Post-install complete ==="
