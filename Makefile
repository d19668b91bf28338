# Every target sets up what it needs. Variables narrow or widen the work:
#   make bench MODALITY=histo PRETEXT=mae,ijepa TASK=busi TRACK=laptop SEEDS=3 GPUS=2 DATA=/data CORPUS=local
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.installed
MODALITY ?=
TRACK ?= demo
PRETEXT ?=
TASK ?=
PROBE ?=
SEEDS ?=
GPUS ?= 1
DATA ?= data
CORPUS ?=
POLICY ?=
PRECISION ?=
THREADS ?=
MICRO ?=
COMPILE ?=
MINUTES ?= 8.5
SKIP_UNREADABLE ?=
PACK ?=
NODES ?=
NODE ?=
HEAD ?=
LAUNCH ?=
PROFILE ?=
FUZZ ?= 1000
CHROMIUM ?=
export CHROMIUM
RESULTS ?= results/local

SELECT = --modality "$(MODALITY)" --track "$(TRACK)" --pretext "$(PRETEXT)" --task "$(TASK)" --gpus "$(GPUS)" \
	--data "$(DATA)" --results "$(RESULTS)" $(if $(SEEDS),--seeds $(SEEDS)) $(if $(CORPUS),--corpus $(CORPUS)) \
	$(if $(PROBE),--probe $(PROBE)) \
	$(if $(POLICY),--policy $(POLICY)) $(if $(PRECISION),--precision $(PRECISION))

.PHONY: bench plan test test-browser test-slurm test-faults soak check site verify regression promote export data doctor calibrate benchmark-speed gpu setup clean
.DEFAULT_GOAL := bench

bench: $(READY)
	@PRETEXT_BENCH_COMMAND='make bench $(MAKEOVERRIDES)' $(PY) -m benchmark run $(SELECT) \
		$(if $(THREADS),--threads $(THREADS)) $(if $(SKIP_UNREADABLE),--skip-unreadable) \
		$(if $(MICRO),--micro $(MICRO)) $(if $(COMPILE),--compile) $(if $(PACK),--pack) \
		$(if $(NODES),--nodes $(NODES)) $(if $(NODE),--node $(NODE)) $(if $(HEAD),--head $(HEAD)) \
		$(if $(LAUNCH),--launch $(LAUNCH)) $(if $(PROFILE),--profile $(PROFILE))

plan: $(READY)
	@$(PY) -m benchmark plan $(SELECT)

test: $(READY)
	$(PY) -m pytest

# Chromium is Debian's, or one of your own that CHROMIUM names
test-browser: $(READY)
	@$(PY) -c 'import axe_playwright_python' 2>/dev/null || $(PY) -m pip install -q -c constraints.txt --editable '.[browser]'
	@test -n "$(CHROMIUM)" || command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)
	$(PY) -m pytest -m browser

# Debian's SLURM on loopback, which needs root
test-slurm: $(READY)
	@command -v slurmctld >/dev/null || test -x /usr/sbin/slurmctld || \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null) || \
		echo "test-slurm: SLURM could not be installed; the tests below say what they skip"
	$(PY) -m pytest -rs -m "slurm and not long"

# What `make test` and `make test-slurm` do in short, in full
test-faults: $(READY)
	PRETEXT_BENCH_FUZZ=$(FUZZ) $(PY) -m pytest -m "not browser and not slurm" \
		tests/test_faults.py tests/test_fuzz.py tests/test_hostile.py tests/test_nodes.py \
		tests/test_stream.py
	$(PY) -m pytest -rs -m slurm
	$(PY) -m tests.faults kill --kills 50 --pretext mae --task phantom_local

# Two hundred grids, three of four sent a signal on their way
soak: $(READY)
	$(PY) -m tests.faults soak --runs 200 --pretext mae --task phantom_local --stage compute

check: $(READY)
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .

# leaderboards/site/ from results/published, committed; `python -m leaderboards build` writes the pages of local results
site: $(READY)
	@$(PY) -m leaderboards site

verify: $(READY)
	@$(PY) -m leaderboards verify --results "$(RESULTS)" --results results/published

# verify, the golden micro-runs, and the smoke track trained again: which number moved
regression: $(READY)
	@$(PY) -m benchmark regression --results "$(RESULTS)"

# verified runs of TRACK, packed into results/published
promote: $(READY)
	@$(PY) -m leaderboards promote --results "$(RESULTS)" --track "$(TRACK)" $(if $(MODALITY),--modality "$(MODALITY)")

export: $(READY)
	@$(PY) -m leaderboards export --results "$(RESULTS)"

data: $(READY)
	@$(PY) -m benchmark data $(if $(TASK),fetch "$(TASK)",status) --data "$(DATA)"

doctor: $(READY)
	@$(PY) -m benchmark doctor --data "$(DATA)"

calibrate: $(READY)
	@$(PY) -m benchmark.calibrate $(if $(MODALITY),--modality $(MODALITY))

benchmark-speed: $(READY)
	@$(PY) -m benchmark.speed compare
	@$(PY) -m benchmark.speed memory

# A machine without network brings its own torch: make gpu PY=python3 READY=
gpu: $(READY)
	@$(PY) -m benchmark.gpu --minutes $(MINUTES) --data "$(DATA)" --results "$(RESULTS)"

setup: $(READY)

$(READY): pyproject.toml constraints.txt benchmark/install.py
	@$(PYTHON) benchmark/install.py $(VENV)

clean:
	rm -rf $(VENV) .cache
