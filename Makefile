# Every target sets up what it needs. Variables narrow or widen the work:
#   make bench MODALITY=histo PRETEXT=mae,ijepa TASK=busi TRACK=laptop SEEDS=3 GPUS=2 DATA=/data CORPUS=local
NAMES := PYTHON VENV PY READY MODALITY TRACK PRETEXT TASK PROBE SEEDS CEILINGS GPUS DATA CORPUS POLICY PRECISION THREADS MICRO COMPILE \
	MINUTES GRID SKIP_UNREADABLE PACK NODES NODE HEAD LAUNCH PROFILE FUZZ CHROMIUM RESULTS WORKERS RECORD BASE
PYTHON ?= python3
VENV := .venv
PY := $(value VENV)/bin/python
READY := $(value VENV)/.installed
TRACK ?= demo
GPUS ?= 1
DATA ?= data
MINUTES ?= 8.5
FUZZ ?= 1000
RESULTS ?= results/local
WORKERS ?= logical
BASE ?= origin/main

# What a user gave reaches the command as it is: make expands nothing in it, the shell splits and runs nothing.
# one_word: a text for the shell; quoted: the value of a variable; option: an option, where its variable has a value
one_word = '$(subst ','\'',$(1))'
quoted = $(call one_word,$(value $(1)))
option = $(if $(value $(2)),$(1) $(call quoted,$(2)))
define line_break


endef
$(foreach name,$(NAMES),$(if $(findstring $(line_break),$(value $(name))),$(error $(name) has a line break in it)))
$(foreach name,VENV READY,$(if $(word 2,$(value $(name))),$(error $(name) has a space in it, which no target can have)))
$(foreach sign,; : | %,$(if $(findstring $(sign),$(value VENV) $(value READY)),$(error no $(sign) can be in VENV or READY)))
unexport $(NAMES)

RUN = $(call quoted,PY) -m
PARALLEL = $(call option,--numprocesses,WORKERS) --dist loadfile
GIVEN = $(foreach name,$(sort $(.VARIABLES)),$(if $(filter command,$(origin $(name))),$(call one_word,$(name)=$(value $(name)))))
# A grid says the track of its runs, so a default is not given beside one
SELECT = --modality $(call quoted,MODALITY) $(if $(filter file,$(origin TRACK)),,--track $(call quoted,TRACK)) --pretext $(call quoted,PRETEXT) \
	--task $(call quoted,TASK) --gpus $(call quoted,GPUS) --data $(call quoted,DATA) --results $(call quoted,RESULTS) \
	$(call option,--seeds,SEEDS) $(call option,--ceilings,CEILINGS) $(call option,--corpus,CORPUS) $(call option,--probe,PROBE) \
	$(call option,--policy,POLICY) $(call option,--precision,PRECISION) $(call option,--grid,GRID)

.PHONY: bench plan test test-system test-browser test-slurm test-faults soak check site verify regression promote submission export data doctor calibrate benchmark-speed gpu setup clean
.DEFAULT_GOAL := bench

bench: $(value READY)
	@PRETEXT_BENCH_COMMAND=$(call one_word,make bench $(GIVEN)) \
		$(RUN) benchmark run $(SELECT) \
		$(call option,--threads,THREADS) $(if $(value SKIP_UNREADABLE),--skip-unreadable) \
		$(call option,--micro,MICRO) $(call option,--compile,COMPILE) $(call option,--pack,PACK) \
		$(call option,--nodes,NODES) $(call option,--node,NODE) $(call option,--head,HEAD) \
		$(call option,--launch,LAUNCH) $(call option,--profile,PROFILE)

plan: $(value READY)
	@$(RUN) benchmark plan $(SELECT)

# Unit and contract tests, a file at a time on each of WORKERS processes, one thread each
test: $(value READY)
	$(RUN) pytest $(PARALLEL)

# The whole program: end to end, faults, nodes, fuzz, streams, what is hostile, containers, operations
test-system: $(value READY)
	$(RUN) pytest $(PARALLEL) --no-loadscope-reorder tests/system

# Chromium is Debian's, or one of your own that CHROMIUM names
test-browser: $(value READY)
	@$(call quoted,PY) -c 'import axe_playwright_python' 2>/dev/null || $(RUN) pip install -q -c constraints.txt --editable '.[browser]'
	@test -n $(call quoted,CHROMIUM) || command -v chromium >/dev/null || (apt-get update -qq && apt-get install -y -qq chromium >/dev/null)
	CHROMIUM=$(call quoted,CHROMIUM) $(RUN) pytest -m browser tests/system

# Debian's SLURM on loopback, which needs root
test-slurm: $(value READY)
	@command -v slurmctld >/dev/null || test -x /usr/sbin/slurmctld || \
		(apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge >/dev/null) || \
		echo "test-slurm: SLURM could not be installed; the tests below say what they skip"
	$(RUN) pytest -rs -m "slurm and not long" tests/system

# What `make test-system` and `make test-slurm` do in short, in full
test-faults: $(value READY)
	PRETEXT_BENCH_FUZZ=$(call quoted,FUZZ) $(RUN) pytest -m "not browser and not slurm" \
		tests/system/test_faults.py tests/system/test_fuzz.py tests/system/test_hostile.py tests/system/test_nodes.py \
		tests/system/test_stream.py tests/system/test_committed_site.py
	$(RUN) pytest -rs -m slurm tests/system
	$(RUN) tests.helpers.faults kill --kills 50 --pretext mae --task phantom_local

# Two hundred grids, three of four sent a signal on their way
soak: $(value READY)
	$(RUN) tests.helpers.faults soak --runs 200 --pretext mae --task phantom_local --stage compute

check: $(value READY)
	$(call quoted,VENV)/bin/ruff format --check .
	$(call quoted,VENV)/bin/ruff check .

# leaderboards/site/ from results/published, committed; `python -m leaderboards build` writes the pages of local results
site: $(value READY)
	@$(RUN) leaderboards site

# Recomputed from predictions: what both stores hold, and what the published pages print (docs/site.md: what is not)
verify: $(value READY)
	@$(RUN) leaderboards verify --results $(call quoted,RESULTS) --results results/published

# Which reported number does this code move: golden micro-runs, the smoke track trained again, claims judged again.
# RECORD=1 stores what it gives instead
regression: $(value READY)
	@$(RUN) benchmark regression $(if $(value RECORD),--record)
	@$(RUN) leaderboards regression $(if $(value RECORD),--record)

# verified runs of TRACK, packed into results/published
promote: $(value READY)
	@$(RUN) leaderboards promote --results $(call quoted,RESULTS) --track $(call quoted,TRACK) $(call option,--modality,MODALITY)

# What this branch adds to results/published since BASE: its rows, or why they cannot be taken
submission: $(value READY)
	@$(RUN) leaderboards submission --base $(call quoted,BASE)

export: $(value READY)
	@$(RUN) leaderboards export --results $(call quoted,RESULTS)

data: $(value READY)
	@$(RUN) benchmark data $(if $(value TASK),fetch $(call quoted,TASK),status) --data $(call quoted,DATA)

doctor: $(value READY)
	@$(RUN) benchmark doctor --data $(call quoted,DATA)

calibrate: $(value READY)
	@$(RUN) benchmark.lab.calibrate $(call option,--modality,MODALITY)

benchmark-speed: $(value READY)
	@$(RUN) benchmark.lab.speed compare
	@$(RUN) benchmark.lab.speed memory

# GRID=FILE of frozen recipes whose runs are wanted
# A machine without network brings its own torch: make gpu PY=python3 READY=
gpu: $(value READY)
	@$(RUN) benchmark.lab.gpu --minutes $(call quoted,MINUTES) --data $(call quoted,DATA) --results $(call quoted,RESULTS) \
		$(call option,--grid,GRID) $(call option,--task,TASK) $(call option,--probe,PROBE)

setup: $(value READY)

$(value READY): pyproject.toml constraints.txt benchmark/device/install.py
	@$(call quoted,PYTHON) benchmark/device/install.py $(call quoted,VENV)

clean:
	rm -rf $(call quoted,VENV) .cache
