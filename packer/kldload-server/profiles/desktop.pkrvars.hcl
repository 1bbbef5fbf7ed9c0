image_name      = "kldload-desktop"
install_profile = "desktop"
disk_size       = "20480"
