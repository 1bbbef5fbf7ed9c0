image_name      = "kldload-k8s-node"
install_profile = "k8s-node"
disk_size       = "16384"
