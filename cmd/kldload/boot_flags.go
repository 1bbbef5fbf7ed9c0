package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/kldload/kldload/internal/machine"
	"github.com/kldload/kldload/internal/ui"
)

// bootOptions are the flags that boot and test share.
type bootOptions struct {
	name, user, sshKey, userData string
	memory, diskSize             string
	diskInterface, accel, serial string
	disks                        []string
	cpus                         int
	timeout                      time.Duration
	network, keep                bool
}

func (o *bootOptions) addFlags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.name, "name", "", "host name of the clone (default: from the file name)")
	f.StringVar(&o.sshKey, "ssh-key", "", "log in with the private key in `FILE` (default: a new key)")
	f.StringVar(&o.userData, "user-data", "", "give the clone the user-data in `FILE`; needs --ssh-key")
	f.StringVar(&o.user, "user", "", "log in as `NAME` (default: kldload)")
	f.StringVar(&o.memory, "memory", "2G", "memory; a bare number is MiB")
	f.IntVar(&o.cpus, "cpus", 0, "processors (default: 2, or 1 on a host with 1)")
	f.StringVar(&o.diskSize, "disk-size", "", "disk of the clone, as 20G or +2G (default: as the image)")
	f.StringVar(&o.diskInterface, "disk-interface", "virtio", "virtio, virtio-scsi, sata or nvme")
	f.StringArrayVar(&o.disks, "disk", nil, "attach `FILE[,format=NAME]` as one more disk, written in place; repeatable")
	f.StringVar(&o.accel, "accel", "auto", "auto, kvm or tcg; auto takes kvm when a probe guest runs well in it")
	f.DurationVar(&o.timeout, "timeout", 0, "time to the first login (default: 2m with kvm, 10m with tcg)")
	f.BoolVar(&o.network, "network", false, "let the clone reach the network")
	f.BoolVar(&o.keep, "keep", false, "keep the clone's files at the end")
}

// config checks the flags.
func (o *bootOptions) config(image string) (machine.Config, error) {
	cfg := machine.Config{Image: image, Name: o.name, User: o.user, SSHKey: o.sshKey, UserData: o.userData,
		CPUs: o.cpus, DiskInterface: o.diskInterface, Accel: machine.Accel(o.accel), Timeout: o.timeout,
		Network: o.network, Keep: o.keep, Serial: o.serial}
	for _, arg := range o.disks {
		file, format, _ := strings.Cut(arg, ",format=")
		cfg.Disks = append(cfg.Disks, machine.ExtraDisk{Image: file, Format: format})
	}
	if o.userData != "" && o.sshKey == "" {
		return cfg, usagef("--user-data needs --ssh-key\nhint: give the private key that the user-data lets in")
	}
	memory, err := ui.ParseBytes(o.memory, 1<<20)
	if err != nil || memory < 1<<20 {
		return cfg, usagef("--memory %q: want MiB, or a size such as 2G", o.memory)
	}
	cfg.Memory = int(memory >> 20)
	if o.diskSize == "" {
		return cfg, nil
	}
	size, err := ui.ParseBytes(strings.TrimPrefix(o.diskSize, "+"), 1)
	if err != nil || size == 0 || size%512 != 0 {
		return cfg, usagef("--disk-size %q: want a size such as 20G, or +2G more than the image", o.diskSize)
	}
	if strings.HasPrefix(o.diskSize, "+") {
		cfg.GrowBy = size
	} else {
		cfg.DiskSize = size
	}
	return cfg, nil
}
