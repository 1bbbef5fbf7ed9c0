// Package test holds the long scenarios: the built binary against a real
// darksite, judged by tools nobody here wrote. They are behind a build tag,
// since they need root (for loop mounts, namespaces and a user account that
// they make and remove), a darksite with profile core, 10 GiB in TMPDIR, and
// minutes:
//
//	KLDLOAD_DARKSITE=/path/to/bookworm go test -tags integration -count=1 -timeout 30m ./test
//
// KLDLOAD_DARKSITE is required. KLDLOAD_BIN is the binary to test (default:
// built here), KLDLOAD_CACHE the cache to take package trees from (default:
// the user's); work folders are the tests' own, so that other builds on the
// machine do not disturb them. A tool or folder that is missing fails a test,
// nothing is skipped.
//
// Real boots of images are in make image; here, one golden image is booted for
// its kernel, which judges pools that were written here (kernel_judge.sh).
package test
