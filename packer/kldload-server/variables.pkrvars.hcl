# The defaults of kldload-server.pkr.hcl, to copy and change:
#   kldload build -var-file=my.pkrvars.hcl packer/kldload-server

darksite        = "darksites/bookworm"
image_name      = "kldload-server"
image_version   = "1.0.0"
target_distro   = "debian"
release         = "bookworm"
install_profile = "server"
kernel          = "generic"
disk_size       = "8192"
formats         = ["qcow2"]
output_dir      = "output"
