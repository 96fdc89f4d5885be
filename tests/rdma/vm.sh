#!/usr/bin/env bash
# vm.sh [FOLDER]: boots Debian's kernel under qemu, emulated, with a soft RDMA device on the loopback interface, and runs
# FOLDER/run.sh in it as /test/run.sh. Prints what the machine printed and exits as run.sh did (0 to 124); 125: the machine
# died without a word. Exit 77 after a line `skip: ...`: this computer cannot do it; the line says what to install.
#
# Without FOLDER it only gets ready what it needs. Kernel, modules and the base of the initramfs stay in the user's cache
# folder (73 MB). What is missing on the computer is only installed, by root, when RDMA_REQUIRED=1. VM_LIMIT is the limit
# in seconds, 240.
set -euo pipefail

cache=${XDG_CACHE_HOME:-$HOME/.cache}/moorage/rdma-vm-1
packages=(qemu-system-x86 libibverbs1 ibverbs-providers iproute2 busybox-static cpio xz-utils)
modules=(net/ipv4/udp_tunnel net/ipv6/ip6_udp_tunnel crypto/crc32_generic drivers/infiniband/core/ib_core
	drivers/infiniband/core/ib_uverbs drivers/infiniband/sw/rxe/rdma_rxe)
lib=/usr/lib/x86_64-linux-gnu

skip() {
	echo "skip: real verbs were not exercised: $1"
	exit 77
}

missing() {
	local p
	for p in "${packages[@]}"; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s\n' "$p"
	done
}

# apt_get ARGUMENTS: networks fail, and so do others that hold its lock.
apt_get() { apt-get -qq -o Acquire::Retries=3 -o DPkg::Lock::Timeout=120 "$@"; }

# install what is missing, if we may.
install() {
	local want
	[ "$(uname -m)" = x86_64 ] || skip "the virtual machine is for x86_64, this is $(uname -m)"
	if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
		skip "the virtual machine takes its kernel from Debian or Ubuntu packages, and there is no apt-get"
	fi
	mapfile -t want < <(missing)
	[ ${#want[@]} -gt 0 ] || return 0
	[[ "$(id -u)" = 0 && "${RDMA_REQUIRED:-}" = 1 ]] || skip "as root: apt-get install ${want[*]} (RDMA_REQUIRED=1 does it)"
	apt_get update || true
	DEBIAN_FRONTEND=noninteractive apt_get install -y --no-install-recommends "${want[@]}" >/dev/null ||
		skip "apt-get could not install ${want[*]}"
}

# number OFFSET SIZE FILE: a little-endian number of a kernel's boot header.
number() { od -An -tu"$2" -j"$1" -N"$2" "$3" | tr -d ' '; }

# fetch_kernel: the uncompressed kernel, which qemu starts without a boot loader and the guest need not unpack, and the modules.
fetch_kernel() {
	local work package image start length module wanted i=0
	[ ! -s "$cache/vmlinux" ] || return 0
	work=$(mktemp -d)
	apt-cache show linux-image-amd64 >/dev/null 2>&1 || [ "$(id -u)" != 0 ] || apt_get update || true
	package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '/Depends: linux-image/ { p = $2 } END { print p }')
	[ -n "$package" ] || skip "apt-get knows no package linux-image-amd64 (apt-get update?)"
	(cd "$work" && apt_get download -o APT::Sandbox::User=root "$package") || skip "apt-get could not download $package"
	mapfile -t wanted < <(printf './lib/modules/*/kernel/%s.ko\n' "${modules[@]}")
	dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work" --wildcards './boot/vmlinuz-*' "${wanted[@]}"
	rm -rf "$cache/modules"
	mkdir -p "$cache/modules"
	for module in "${modules[@]}"; do
		cp "$work"/lib/modules/*/kernel/"$module.ko" "$cache/modules/$(printf %02d $i)-$(basename "$module").ko"
		i=$((i + 1))
	done
	image=("$work"/boot/vmlinuz-*)
	start=$((($(number 0x1f1 1 "${image[0]}") + 1) * 512 + $(number 0x248 4 "${image[0]}")))
	length=$(number 0x24c 4 "${image[0]}")
	dd if="${image[0]}" iflag=skip_bytes,count_bytes skip="$start" count=$((length - 4)) bs=1M status=none |
		xz -dc >"$cache/vmlinux.new"
	mv "$cache/vmlinux.new" "$cache/vmlinux"
	rm -rf "$work"
}

# with_libraries ROOT PROGRAM: copies a program or library and what it is linked with.
with_libraries() {
	local file
	for file in "$2" $(ldd "$2" | grep -oE '/[^ ]+'); do
		mkdir -p "$1$(dirname "$file")"
		cp -L "$file" "$1$file"
	done
}

# build_base: the initramfs without the test. Built anew when the verbs packages change.
build_base() {
	local root version
	version=$(dpkg-query -W -f '${Version}' libibverbs1)-$(cksum <"${BASH_SOURCE[0]}" | cut -d' ' -f1)
	base=$cache/base-$version.cpio
	[ ! -s "$base" ] || return 0
	root=$(mktemp -d)
	chmod 755 "$root"
	mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,etc/libibverbs.d,test,modules}
	cp "$(command -v busybox)" "$root/bin/busybox"
	cp "$cache"/modules/*.ko "$root/modules/"
	cp /etc/libibverbs.d/rxe.driver "$root/etc/libibverbs.d/"
	with_libraries "$root" "$(command -v rdma || echo /usr/bin/rdma)"
	with_libraries "$root" $lib/libibverbs.so.1
	with_libraries "$root" "$(ls $lib/libibverbs/librxe-rdmav*.so)"
	for file in $lib/libpthread.so.0 $lib/libdl.so.2; do # of programs that look libraries up at run time
		[ ! -e $file ] || with_libraries "$root" $file
	done
	cat >"$root/init" <<'INIT'
#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin:/usr/bin:/sbin:/usr/sbin HOME=/tmp
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=1777 tmp /tmp
ip link set lo up
for module in /modules/*.ko; do insmod $module || echo "vm: $module was not loaded"; done
ulimit -l unlimited
rdma link add rxe0 type rxe netdev lo
echo "vm: ready after $(cut -d' ' -f1 /proc/uptime) s"
cd /test
sh ./run.sh
status=$?
echo "vm: done after $(cut -d' ' -f1 /proc/uptime) s, exit status $status"
[ $status -le 124 ] || status=124
# A byte N at this port ends qemu with 2N+1.
printf "\\$(printf %03o $status)" | dd of=/dev/port bs=1 seek=244 count=1 2>/dev/null
poweroff -f
INIT
	chmod 755 "$root/init"
	rm -f "$cache"/base-*.cpio
	(cd "$root" && find . | cpio -o -H newc --quiet) >"$base.new"
	mv "$base.new" "$base"
	rm -rf "$root"
}

boot() {
	local folder=$1 status=0
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	cp "$base" "$work/initrd"
	mkdir -p "$work/more/test"
	cp -rL "$folder"/. "$work/more/test/"
	chmod -R a+rX "$work/more"
	(cd "$work/more" && find . | cpio -o -H newc --quiet) >>"$work/initrd" # the kernel unpacks one after the other
	nice timeout -k 5 "${VM_LIMIT:-240}" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 \
		-nodefaults -display none -no-reboot -serial "file:$work/log" -device isa-debug-exit,iobase=0xf4,iosize=1 \
		-kernel "$cache/vmlinux" -initrd "$work/initrd" -append "console=ttyS0 quiet panic=-1 oops=panic" 2>"$work/err" || status=$?
	tr -d '\r' <"$work/log" | grep -av 'speed is unknown' || true
	if [ $((status % 2)) -eq 1 ] && [ $status -lt 250 ] && [ $status -ne 137 ]; then
		exit $((status >> 1))
	fi
	cat "$work/err" >&2
	echo "the virtual machine ended without an exit status (qemu: $status)" >&2
	exit 125
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
install
fetch_kernel
build_base
flock -u 9
[ $# -eq 0 ] || boot "$1"
