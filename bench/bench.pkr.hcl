# The image of bench/build.sh as kldload's user describes it.

variable "darksite" { type = string }
variable "kernel" { type = string }
variable "script" { type = string }
variable "output" { type = string }

source "kldload" "bench" {
  darksite         = var.darksite
  profile          = "core"
  kernel           = var.kernel
  disk_size        = "7680" # 512 MiB ESP, 7 GiB root, as in mkosi.repart
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
    formats = ["qcow2"]
  }
}
