# shellcheck shell=bash
# The library, the wheel, the source distribution and the installed prefix. Sourced after common.sh and venv.sh.
#
#   build/libmoorage.so, libmoorage.so.1, include/   what a C program can be built against
#   build/wheel/  build/site/                        the wheel, and the same unpacked, for PYTHONPATH
#   build/prefix/                                    what `install PREFIX` would make

SONAME=$(sed -n 's/^soname=//p' "$REPO/scripts/build_library.sh")

version() { sed -n 's/^version = "\(.*\)"$/\1/p' "$REPO/python/pyproject.toml"; }

build_library() {
	need_go
	need_cc
	local header
	bash "$REPO/scripts/build_library.sh" "$BUILD/libmoorage.so"
	ln -sfn libmoorage.so "$BUILD/$SONAME"
	rm -rf "$BUILD/include"
	mkdir -p "$BUILD/include"
	for header in "$REPO"/include/moorage.h*; do
		cp "$header" "$BUILD/include/"
	done
}

# build_wheel: one wheel in build/wheel from the library in build/, and the same unpacked in build/site.
build_wheel() {
	local python
	python=$(tools_venv)
	rm -rf "$BUILD/wheel" "$BUILD/site"
	(cd "$REPO/python" &&
		MOORAGE_PREBUILT=$BUILD/libmoorage.so "$python" -m hatchling build -t wheel -d "$BUILD/wheel")
	"$python" -m pip install --quiet --no-deps --no-index --no-compile --target "$BUILD/site" "$(wheel_file)"
}

wheel_file() {
	local wheels=("$BUILD"/wheel/moorage-*.whl)
	[ -e "${wheels[0]}" ] || die "there is no wheel; ./build.sh build makes it"
	printf '%s\n' "${wheels[0]}"
}

# build_sdist FOLDER
build_sdist() {
	local python
	python=$(tools_venv)
	(cd "$REPO/python" && "$python" -m hatchling build -t sdist -d "$1")
}

# install_prefix PREFIX: header, library, pkg-config and CMake files. Nothing in them names the prefix.
install_prefix() {
	local prefix=$1 template target
	mkdir -p "$prefix/include" "$prefix/lib/pkgconfig" "$prefix/lib/cmake/moorage"
	install -m 644 "$BUILD"/include/moorage.h* "$prefix/include/"
	install -m 755 "$BUILD/libmoorage.so" "$prefix/lib/$SONAME"
	ln -sfn "$SONAME" "$prefix/lib/libmoorage.so"
	for template in "$REPO"/scripts/install/*.in; do
		target=$(basename "${template%.in}")
		case $target in
		*.pc) target=$prefix/lib/pkgconfig/$target ;;
		*) target=$prefix/lib/cmake/moorage/$target ;;
		esac
		sed -e "s/@VERSION@/$(version)/" -e "s/@SONAME@/$SONAME/" "$template" >"$target"
		chmod 644 "$target"
	done
}

build_all() {
	build_library
	build_wheel
	rm -rf "$BUILD/prefix"
	install_prefix "$BUILD/prefix"
}

# release: what is published, in dist/, with checksums that `sha256sum -c` reads.
release() {
	build_all
	rm -rf "$DIST"
	mkdir -p "$DIST"
	cp "$(wheel_file)" "$DIST/"
	build_sdist "$DIST"
	(cd "$DIST" && sha256sum -- *.whl *.tar.gz >SHA256SUMS && cat SHA256SUMS)
}
