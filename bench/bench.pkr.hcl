# The image of bench/build.sh, and of the case build in bench/zfs.sh, as
# kldload's user describes it.

variable "darksite" { type = string }
variable "kernel" { type = string }
variable "script" { type = string }
variable "output" { type = string }

variable "profile" {
  type    = string
  default = "core"
}

variable "storage" {
  type    = string
  default = "ext4" # as the others of bench/build.sh
}

variable "compression" {
  type    = string
  default = "deflate" # as qemu-img; the shipped template takes zstd
}

source "kldload" "bench" {
  darksite         = var.darksite
  profile          = var.profile
  kernel           = var.kernel
  disk_size        = "7680" # 512 MiB ESP, 7 GiB root, as in mkosi.repart
  storage          = var.storage
  timezone         = "UTC"
  locale           = "C.UTF-8"
  skip_boot        = true
  output_directory = var.output
  vm_name          = "bench"
}

build {
  sources = ["source.kldload.bench"]

  provisioner "shell" {
    script = var.script
  }

  post-processor "kexport" {
    formats   = ["qcow2"]
    subformat = { "qcow2.compression" = var.compression }
  }
}
