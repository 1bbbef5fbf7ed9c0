# The least that boots, logs in and updates.
image_name      = "kldload-core"
install_profile = "core"
disk_size       = "4096"
