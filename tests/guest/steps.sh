# Read by scripts/test: the binaries for boards, built, compared, and run on emulated processors and
# an emulated Raspberry Pi. It uses `run`, `skip` and `failed` of that script.

test_boards() {
    local target built=(aarch64)
    run 1200 tests/guest/reproducible
    run 120 scripts/size
    for target in x86_64 armv7 armv6; do
        printf '\n== scripts/cross %s\n' $target
        timeout --kill-after=10 1200 scripts/cross $target
        case $? in
        0) built+=($target) ;;
        3) skip "the $target binary: its tools cannot be had here, as said above" ;;
        *) failed=$((failed + 1)) ;;
        esac
    done
    run 120 python3 tests/guest/smoke.py "${built[@]}"
    # Without any optimisation, an emulated processor takes five times as long for it.
    run 1500 env ENCKE_RUNNER=qemu-aarch64-static CARGO_PROFILE_DEV_OPT_LEVEL=1 \
        CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER=qemu-aarch64-static \
        cargo test --locked --target aarch64-unknown-linux-musl
}

test_guest() {
    if [ -n "${ENCKE_SKIP_GUEST:-}" ]; then
        skip "the guest test: ENCKE_SKIP_GUEST is set"
    elif ! timeout --kill-after=10 900 tests/guest/fetch; then
        skip "the guest test: what it boots cannot be had here, as said above; all else goes on"
    elif ENCKE_AARCH64="$(scripts/cross aarch64)"; then
        export ENCKE_AARCH64
        run 300 python3 tests/guest/guest.py
    else
        failed=$((failed + 1))
    fi
}
