// Package template reads a Packer HCL2 template into typed builds.
//
// [Load] takes a file or a folder of *.pkr.hcl, the variables given beside it
// (-var, -var-file, *.auto.pkrvars.hcl, PKR_VAR_*), and returns a [Template]:
// one [Build] for each source of each build block, its values checked. It
// reads files and does nothing else: the clock, the environment and the
// working directory are parameters, so that the same input gives the same
// template. hashicorp/hcl and go-cty do the language.
//
// Every mistake is an [Error] with its place, the line and a hint; Load
// reports all it finds, in order of position, as [Diagnostics].
//
// Understood: packer, variable, variables, local, locals, source, build and in
// it source, provisioner (shell, file), post-processor and post-processors
// (kexport, manifest, checksum); only and except; the functions listed in
// docs/templates.md.
//
// Not understood, and said so at the place: JSON templates, data sources,
// dynamic blocks, error-cleanup-provisioner, sources other than "kldload",
// the provisioner settings pause_before, max_retries, timeout and override,
// keep_input_artifact. Nothing is parsed and ignored.
//
// Language: https://github.com/hashicorp/hcl/blob/main/hclsyntax/spec.md.
// Blocks: https://developer.hashicorp.com/packer/docs/templates/hcl_templates.
package template
