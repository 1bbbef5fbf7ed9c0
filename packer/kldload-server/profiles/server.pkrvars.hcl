image_name      = "kldload-server"
install_profile = "server"
