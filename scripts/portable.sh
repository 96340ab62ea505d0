#!/usr/bin/env bash
# The test suite as other machines would run it: other kernels, one and two threads, another hash seed, another order,
# and two busy processes beside it. Usage: portable.sh PYTHON JOBS [arguments of pytest]; logs in build/portable.
set -uo pipefail
python=$1 jobs=$2
shift 2
logs=build/portable
mkdir -p "$logs"
failed=0

run() {  # run NAME [VARIABLE=VALUE ...] -- [arguments of pytest]
	local name=$1
	shift
	local variables=()
	while [ "$1" != -- ]; do
		variables+=("$1")
		shift
	done
	shift
	if env "${variables[@]}" "$python" -m pytest -n "$jobs" --dist loadfile --max-worker-restart 2 "$@" >"$logs/$name.log" 2>&1; then
		echo "$name: $(tail -1 "$logs/$name.log")"
	else
		echo "$name: FAILED, $(tail -1 "$logs/$name.log")"
		failed=$((failed + 1))
	fi
}

threads() {
	echo "OMP_NUM_THREADS=$1" "OPENBLAS_NUM_THREADS=$1" "MKL_NUM_THREADS=$1" "LP_NUM_THREADS=$1"
}

old="ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=AVX2 OPENBLAS_CORETYPE=Haswell"
# shellcheck disable=SC2046,SC2086
{
	run kernels $(threads 1) $old -- "$@"
	run threads $(threads 2) -- "$@"
	run kernels-threads $(threads 2) $old PYTHONHASHSEED=7 -- "$@"
	run order $(threads 1) PYTHONHASHSEED=11 -- --random-order --random-order-bucket=module --random-order-seed=5 "$@"
}
busy=()
for _ in 1 2; do
	"$python" -c "while True: pass" &
	busy+=($!)
done
trap 'kill "${busy[@]}" 2>/dev/null' EXIT
# shellcheck disable=SC2046
run load $(threads 1) -- "$@"
echo "$failed of 5 runs failed; logs in $logs"
exit $((failed > 0))
