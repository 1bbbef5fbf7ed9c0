# A sealed Debian server image, built from a darksite: no VM, no network.
#
#   kldload build packer/kldload-server
#   kldload build -var-file=packer/kldload-server/profiles/k8s-node.pkrvars.hcl packer/kldload-server

packer {
  required_version = ">= 1.9.0"
}

# ─── Variables ────────────────────────────────────────────────────────────────

variable "darksite" {
  type        = string
  description = "Folder of the offline mirror (kldload darksite create); relative to the working directory."
  default     = "darksites/bookworm"
}

variable "image_name" {
  type    = string
  default = "kldload-server"
}

variable "image_version" {
  type    = string
  default = "1.0.0"

  validation {
    condition     = can(regex("^[0-9A-Za-z][0-9A-Za-z.+-]*$", var.image_version))
    error_message = "The version becomes part of file names: letters, digits, dots, + and - are allowed."
  }
}

variable "target_distro" {
  type    = string
  default = "debian"
}

variable "release" {
  type    = string
  default = "bookworm"
}

variable "install_profile" {
  type        = string
  description = "Package set of the darksite."
  default     = "server" # core | server | desktop | k8s-node
}

variable "kernel" {
  type        = string
  description = "generic boots anywhere; cloud is smaller and knows virtual hardware alone."
  default     = "generic"
}

variable "disk_size" {
  type        = string
  description = "MiB, or with a suffix as in 10G; the pool grows to the disk on first boot."
  default     = "8192"
}

variable "formats" {
  type    = list(string)
  default = ["qcow2"] # raw | qcow2
}

variable "output_dir" {
  type    = string
  default = "output"
}

# ─── Locals ───────────────────────────────────────────────────────────────────

locals {
  output_filename = "${var.image_name}-${var.image_version}"
  output          = "${var.output_dir}/${local.output_filename}"
}

# ─── Source: a tree from the darksite ─────────────────────────────────────────

source "kldload" "server" {
  darksite = var.darksite
  distro   = var.target_distro
  release  = var.release
  profile  = var.install_profile
  kernel   = var.kernel

  disk_size = var.disk_size
  timezone  = "UTC"
  locale    = "C.UTF-8"

  # The root is on ZFS. Datasets are as on every machine of kldload; a block adds
  # one, or sets properties of one. Logs may not fill the pool:
  dataset "var/log" {
    quota       = "2G"
    compression = "zstd"
  }

  output_directory = local.output
  vm_name          = local.output_filename
}

# ─── Build ────────────────────────────────────────────────────────────────────

build {
  name    = "kldload-server"
  sources = ["source.kldload.server"]

  provisioner "shell" {
    script = "${path.root}/scripts/post-install.sh"
    environment_vars = [
      "IMAGE_NAME=${var.image_name}",
      "IMAGE_VERSION=${var.image_version}",
      "TARGET_DISTRO=${var.target_distro}",
      "INSTALL_PROFILE=${var.install_profile}",
    ]
  }

  # What is this image's own; kldload seals every image itself.
  provisioner "shell" {
    script = "${path.root}/scripts/seal.sh"
  }

  post-processor "kexport" {
    formats = var.formats
    # Half the time of deflate; QEMU reads it since 5.1.
    subformat = { for f in var.formats : "qcow2.compression" => "zstd" if f == "qcow2" }
  }

  post-processor "manifest" {
    output     = "${local.output}/manifest.json"
    strip_path = false
  }

  post-processor "checksum" {
    checksum_types = ["sha256"]
    output         = "${local.output}/${local.output_filename}.{{.ChecksumType}}sum"
  }
}
