# make bench and make test are all that a fresh machine needs: Python >= 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
NEEDED := hvgym gymnasium numba torch stable_baselines3 sb3_contrib hydra mlflow pandas matplotlib rich pytest xdist hypothesis ruff mypy build

HYPERVISORS := baremetal kvm esxi xen hyperv virtualbox workstation

# In which the tests run
PROCESSES ?= 2

.PHONY: bench test ui perf compare validation jvm-witness hypervisors rules policies optimum io suites clusters reference capacity ranking leaderboard workloads import-docs tour shield advise lint venv clean
.PHONY: bench test ui perf compare validation jvm-witness hypervisors rules policies optimum io suites clusters reference capacity ranking leaderboard workloads import-docs tour advise learning-ppo lint venv clean

bench: venv
	$(BIN)/hvgym bench suite=quick

test: venv
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . > .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-index --target build/installed dist/hvgym-*.whl
	@PYTHONPATH=build/installed $(BIN)/python -c "import hvgym; assert 'build/installed' in hvgym.__file__, hvgym.__file__"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	MYPYPATH=build/installed $(BIN)/mypy -p hvgym
	PYTHONPATH=$(CURDIR)/build/installed $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@rm -rf build/lint && mkdir -p build/lint/hvgym && cp src/hvgym/* build/lint/hvgym/ 2> /dev/null; \
	for folder in envs agents bench conf scripts; do ln -sfn $(CURDIR)/$$folder build/lint/hvgym/$$folder; done
	MYPYPATH=build/lint $(BIN)/mypy -p hvgym

ui: venv
	$(BIN)/hvgym ui

perf: venv
	$(BIN)/python tests/benchmarks/perf.py
	$(BIN)/python tests/benchmarks/cluster.py
	$(BIN)/python tests/benchmarks/recording.py

# Is this tree slower than a commit, and does it answer alike? make compare BASE=COMMIT
BASE ?= HEAD
compare: venv
	@rm -rf build/base && mkdir -p build/base && git archive $(BASE) | tar -x -C build/base
	$(BIN)/python tests/benchmarks/compare.py build/base

validation: venv
	$(BIN)/python tests/validation/page.py

optimum: venv
	$(BIN)/python docs/optimum.py

comma := ,
space := $(subst ,, )
ADMISSION = $(subst $(space),$(comma),$(sort $(basename $(notdir $(shell grep -l "needs: arrivals" conf/agent/*.yaml)))))

# Every agent, learners included, on quick, and some on standard, in half an hour; goes on where it stopped. After a change of the
# code: rm -rf runs/ranking
# Of suite standard: its own agents, and copies tuned on quick with their originals
COPIES := proxmox_tuned,mom_vdsm_tuned,capitulino_tuned,tmo_tuned,esx_equal_tuned,hyperv_like_tuned,squeezed_tuned,selfballoon_tuned,meb,meb_tuned,best_constant,best_constant_tuned,greedy,greedy_tuned,mom_upstream,mom_upstream_tuned,proportional_tuned
ON_STANDARD := static,proportional,coldest_first,proxmox,mom_vdsm,capitulino,tmo,esx,esx_equal,hyperv_like,squeezed,selfballoon,static_shares,io_latency
ranking: venv
	$(BIN)/hvgym bench suite=standard agents=[$(ON_STANDARD),$(COPIES)] study=standard runs=runs/ranking tracking=none
	$(BIN)/hvgym bench suite=quick agents=all study=ranking runs=runs/ranking tracking=none
	$(BIN)/hvgym bench suite=quick 'suite.scenarios=[arrival-wave]' agents=[$(ADMISSION)] study=arrivals runs=runs/ranking tracking=none
	$(BIN)/python docs/ranking.py runs/ranking/studies/ranking runs/ranking/studies/arrivals runs/ranking/studies/standard

# The pictures of README; as above.
LEADERS := static,coldest_first,proxmox,proxmox_tuned,mom_vdsm,greedy_tuned,free_page_reporting,esx,esx_equal,selfballoon,static_shares,io_latency
leaderboard: venv
	$(BIN)/hvgym bench suite=quick agents=[$(LEADERS)] study=leaderboard runs=runs/leaderboard tracking=none
	cp runs/leaderboard/studies/leaderboard/leaderboard.png runs/leaderboard/studies/leaderboard/timeline.png docs/

io: venv
	$(BIN)/python docs/io.py

# What there is to win in each scenario, and who wins it without thought. SUITES=quick only prints that suite's rows.
# Does anybody beat the reference? Every agent on every hypervisor, and DRAWN fleets drawn at random (a quarter of a minute of a core
# each); goes on where it stopped. After a change of the code: rm -rf runs/reference
DRAWN ?= 203
reference: venv
	$(BIN)/python docs/reference.py --fleets $(DRAWN)

suites: venv
	$(BIN)/python docs/suites.py $(SUITES)

# Several hosts: suite cluster, and the pictures. Goes on where it stopped; after a change of the code: rm -rf runs/clusters
clusters: venv
	$(BIN)/hvgym bench suite=cluster study=cluster runs=runs/clusters tracking=none
	$(BIN)/python docs/clusters.py runs/clusters/studies/cluster

# Density at the SLO on kvm and esxi; TRACES=DIR adds the VMs of a folder of GWA-T-12 files. Goes on where it stopped. After a
# change of the code: rm -rf runs/capacity
FLEETS ?= 16
CAPACITY = $(BIN)/hvgym capacity hypervisor=$$name rules=default fleets=$(FLEETS) runs=runs/capacity tracking=none
capacity: venv
	for name in kvm esxi; do \
		for scenario in idle-giants tight-hdd; do $(CAPACITY) scenario=$$scenario study=$$scenario-$$name || exit 1; done; \
		if [ -n "$(TRACES)" ]; then \
			$(CAPACITY) workload=bitbrains workload.path="$(TRACES)" study=traces-$$name || exit 1; fi; done
	$(BIN)/python docs/capacity.py runs/capacity/studies

# docs/advise.md: a made-up fleet, and with TRACES=DIR (files of GWA-T-12) the VMs of a data centre on a host of RAM_MIB. After a
# change of the code: rm -rf runs/advise-docs
RAM_MIB ?= 524288
ADVISED := runs/advise-docs
ADVISE := $(BIN)/hvgym advise runs=$(ADVISED) tracking=none
advise: venv
	@mkdir -p $(ADVISED)
	$(BIN)/python docs/advise_fleet.py $(ADVISED)/fleet.csv
	$(BIN)/hvgym import plain $(ADVISED)/fleet.csv out=$(ADVISED)/shop \
		'columns={vm: machine, time: when, cap: size GiB, guest_used: used GiB, guest_cache: cache GiB, cpu_used: cores used, vcpus: cores, group: team}' \
		'units={cap: GiB, guest_used: GiB, guest_cache: GiB, cpu_used: cores}'
	$(ADVISE) workload=$(ADVISED)/shop host.ram_mib=98304 hypervisor=kvm study=shop
	$(ADVISE) workload=$(ADVISED)/shop host.ram_mib=57344 hosts=3 hypervisor=esxi agents=[stock,static,esx] study=shop-esxi
	if [ -n "$(TRACES)" ]; then \
		$(BIN)/hvgym import bitbrains "$(TRACES)" out=$(ADVISED)/bitbrains && \
		$(ADVISE) workload=$(ADVISED)/bitbrains host.ram_mib=$(RAM_MIB) hypervisor=kvm agents=[stock,proxmox_tuned,mom_vdsm_tuned] study=bitbrains; fi
	$(BIN)/python docs/advise.py $(ADVISED)

# Generated demand against real; TRACES=DIR adds the VMs of a folder of GWA-T-12 files.
workloads: venv
	$(BIN)/python docs/workloads.py "$(TRACES)"
# Ten experiments: page, pictures and notebook are what their commands give.
tour: venv
	$(BIN)/python docs/tour.py

# What a shield costs: agents with and without it on quick; AGENTS="es=best.json" others.
shield: venv
	$(BIN)/python docs/shield.py docs $(AGENTS)
# What PPO needs here, arm by arm: some minutes of a core. Goes on where it stopped; after a change of the code: rm -rf runs/learning-ppo
learning-ppo: venv
	$(BIN)/python docs/learning_ppo.py runs/learning-ppo

policies: venv
	$(BIN)/python docs/policies.py

rules: venv
	$(BIN)/python docs/rules.py

import-docs: venv
	$(BIN)/python docs/import.py

# A real JVM against the model's heap curve; skipped where there is no JDK. make validation then shows the record.
jvm-witness: venv
	$(BIN)/python -m hvgym.scripts.lab.witness docs/validation

# From nothing each time. Where never to reclaim is best everywhere (bare metal) a study has results but no score: bench says
# so and fails, and the results are used.
hypervisors: venv
	rm -rf runs/hypervisors
	for name in $(HYPERVISORS); do \
		$(BIN)/hvgym bench suite=hypervisors hypervisor=$$name study=$$name runs=runs/hypervisors tracking=none || \
		test -s runs/hypervisors/studies/$$name/results.csv || exit 1; done
	$(BIN)/python docs/hypervisors.py runs/hypervisors/studies

# Makes .venv, or repairs it: when it is broken, was moved, lacks a package, or pins have changed.
venv:
	@if [ -e .venv ] && ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then \
		echo "make: .venv is broken or older than Python 3.11; making it anew"; rm -rf .venv; fi
	@if [ ! -e .venv ]; then \
		$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || { \
			echo "make: $(PYTHON) is not a Python >= 3.11 with venv; install one and name it: make PYTHON=python3.12 ..." >&2; exit 1; }; \
		$(PYTHON) -m venv .venv; fi
	@stamp="$$(cat pyproject.toml constraints.txt | cksum) $(CURDIR)"; \
	if [ "$$(cat .venv/.stamp 2> /dev/null)" != "$$stamp" ] || ! $(BIN)/python -c \
		"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, '$(NEEDED)'.split())))" 2> /dev/null; then \
		echo "make: installing into .venv (a few minutes the first time)"; \
		$(BIN)/python -m pip install --quiet --upgrade --constraint constraints.txt pip setuptools wheel && \
		PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt --editable '.[dev]' && \
		echo "$$stamp" > .venv/.stamp || { \
			echo "make: the installation failed; see above, then run make again (or rm -rf .venv first)" >&2; exit 1; }; fi

clean:
	rm -rf .venv build dist *.egg-info src/*.egg-info
