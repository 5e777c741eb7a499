# make bench and make test are all that a fresh machine needs: Python >= 3.11 with venv, and make.
PYTHON ?= python3
BIN := .venv/bin
NEEDED := hvgym gymnasium numba torch stable_baselines3 sb3_contrib hydra mlflow pandas matplotlib rich pytest xdist hypothesis ruff mypy build mkdocs material latex2mathml

HYPERVISORS := baremetal kvm esxi xen hyperv virtualbox workstation

# In which the tests run, each on a core of its own. Tests are collected beforehand while the model is compiled, which leaves their
# byte code to all processes
PROCESSES ?= 2

.PHONY: bench test ui guests fidelity perf compare validation jvm-witness hypervisors rules policies optimum io suites clusters reference capacity ranking ranking-real leaderboard workloads import-docs tour advise lint venv clean learning-ppo learned learned-full learned-moves learned-docs learned-studies learned-density learned-trainings learned-vms learned-real learned-scenarios scale configuration model-docs guides site shield

bench: venv
	$(BIN)/hvgym bench suite=quick

test: venv
	@rm -rf build dist
	@$(BIN)/python -m build --wheel --no-isolation --outdir dist . > .venv/build.log 2>&1 || { cat .venv/build.log; exit 1; }
	@$(BIN)/python -m pip install --quiet --no-deps --no-index --target build/installed dist/hvgym-*.whl
	@PYTHONPATH=build/installed $(BIN)/python -c "import hvgym; assert 'build/installed' in hvgym.__file__, hvgym.__file__"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYTHONPATH=$(CURDIR)/build/installed $(BIN)/python tests/compile.py & compiling=$$!; \
	MYPYPATH=build/installed $(BIN)/mypy -p hvgym || { kill $$compiling; exit 1; }; \
	PYTHONPATH=$(CURDIR)/build/installed $(BIN)/python -m pytest --collect-only -qq > /dev/null 2>&1; wait $$compiling
	OMP_NUM_THREADS=1 PYTHONPATH=$(CURDIR)/build/installed $(BIN)/python -m pytest -n $(PROCESSES) --dist worksteal --durations=40

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
	$(BIN)/python tests/benchmarks/workers.py

# What 10,000 jobs take on 1, 100 and 1,000 cores, measured; needs the extras joblib, ray and slurm
scale: venv
	$(BIN)/python docs/scale.py

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

# Suite standard with its own agents, and with every copy that was tuned on it beside its original; every agent on quick, of the
# learners es alone, for the others take many minutes to hours; admission; and with TRACES=DIR (files of GWA-T-12) the same agents on real VMs. Goes on where it stopped, and grows with agents
# that are added later. After a change of the model: rm -rf runs/ranking
TUNED = $(basename $(notdir $(shell grep -l "training seeds a scenario of standard" conf/agent/*_tuned.yaml)))
OF_STANDARD := static proportional best_constant coldest_first proxmox mom_vdsm capitulino tmo senpai oomd_fixed esx esx_equal hyperv_like squeezed selfballoon static_shares io_latency learned_sizes learned_full cheapest_pages
RANKED = $(subst $(space),$(comma),$(sort $(OF_STANDARD) $(TUNED) $(TUNED:_tuned=)))
SLOW_LEARNERS := ppo sac recurrent_ppo ars imitation es_full
ON_QUICK = $(subst $(space),$(comma),$(sort $(filter-out tree $(SLOW_LEARNERS),$(basename $(notdir $(wildcard conf/agent/*.yaml))))))
RANKING := runs=runs/ranking tracking=none
ranking: venv
	$(BIN)/hvgym bench suite=standard agents=[$(RANKED)] study=standard $(RANKING)
	$(BIN)/hvgym bench suite=quick agents=[$(ON_QUICK)] study=ranking $(RANKING)
	$(BIN)/hvgym bench suite=quick 'suite.scenarios=[arrival-wave]' agents=[$(ADMISSION)] study=arrivals $(RANKING)
	$(if $(TRACES),$(MAKE) ranking-real)
	$(BIN)/python docs/ranking.py runs/ranking/studies

# Its part on real VMs alone, which stands apart on the page: TRACES=DIR is a folder of GWA-T-12 files
ranking-real: venv
	$(BIN)/hvgym bench suite=standard 'suite.scenarios=[]' "suite.traces=$(TRACES)" agents=[$(RANKED)] study=real $(RANKING)
	$(BIN)/python docs/ranking.py runs/ranking/studies

# The pictures of README; as above.
LEADERS := learned_sizes,learned_full,static,coldest_first,proxmox,proxmox_tuned,mom_vdsm,greedy_tuned,free_page_reporting,esx,esx_equal,selfballoon,static_shares,io_latency
leaderboard: venv
	$(BIN)/hvgym bench suite=quick agents=[$(LEADERS)] study=leaderboard runs=runs/leaderboard tracking=none
	cp runs/leaderboard/studies/leaderboard/leaderboard.png runs/leaderboard/studies/leaderboard/timeline.png docs/

io: venv
	$(BIN)/python docs/io.py

# Does anybody beat the reference? Every agent on every hypervisor, and DRAWN fleets drawn at random (a quarter of a minute of a core
# each); goes on where it stopped. After a change of the code: rm -rf runs/reference
DRAWN ?= 203
reference: venv
	$(BIN)/python docs/reference.py --fleets $(DRAWN)

# What there is to win in each scenario, and who wins it without thought. SUITES=quick only prints that suite's rows; TRACES=DIR (files
# of GWA-T-12) adds the scenarios of real VMs.
suites: venv
	$(BIN)/python docs/suites.py $(SUITES) $(if $(TRACES),"traces=$(TRACES)")

# Several hosts: suite cluster, and the pictures. Goes on where it stopped; after a change of the model: rm -rf runs/clusters
clusters: venv
	$(BIN)/hvgym bench suite=cluster study=cluster runs=runs/clusters tracking=none
	$(BIN)/python docs/clusters.py runs/clusters/studies/cluster

# Density at the SLO on kvm and esxi; TRACES=DIR adds the VMs of a folder of GWA-T-12 files. Goes on where it stopped. After a
# change of the model: rm -rf runs/capacity
FLEETS ?= 16
CAPACITY = $(BIN)/hvgym capacity hypervisor=$$name rules=default fleets=$(FLEETS) runs=runs/capacity tracking=none
capacity: venv
	for name in kvm esxi; do \
		for scenario in idle-giants tight-hdd; do $(CAPACITY) scenario=$$scenario study=$$scenario-$$name || exit 1; done; \
		if [ -n "$(TRACES)" ]; then \
			$(CAPACITY) workload=bitbrains workload.path="$(TRACES)" study=traces-$$name || exit 1; fi; done
	$(BIN)/python docs/capacity.py runs/capacity/studies

# docs/advise.md: a made-up fleet, and with TRACES=DIR (files of GWA-T-12) the VMs of a data centre on a host of RAM_MIB. After a
# change of the model: rm -rf runs/advise-docs
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

# Trains the two learned policies that the package brings, two parts at once, from nothing, to the same bits each time, and puts their
# weights into agents/learned: the best by eight validation seeds ("generations" in the files); 18 minutes on two cores. Goes on where it
# stopped. SEED=1 trains others, which stay in runs/learned/training. After a change of the code: rm -rf runs/learned
SEED ?= 0
LEARNED := runs/learned/training
TRAIN = $(BIN)/hvgym train rules=default seed=$(SEED) tracking=none validation_seeds=8 agent.train.episode_s=1800 agent.train.threads=1
ON_kvm := analytics-sweep,mixed-tenants,offices-kvm,tenants-kvm,crowd-kvm,sparse-kvm
ON_xen := cache-hogs,hosting-xen,tenants-xen,services-xen,sparse-xen,short-swap-xen,crowd-xen
ON_hyperv := web-siblings,hosting-hyperv,tenants-hyperv,offices-hyperv,sparse-hyperv,short-swap-hyperv
ON_esxi := idle-giants,services-esxi,tenants-esxi,javas-esxi
# How long, in steps and looks at validation seeds; what comes after is no better
STEPS_kvm := 4276800
LOOKS_kvm := 9
STEPS_xen := 2000000
LOOKS_xen := 8
STEPS_hyperv := 4300000
LOOKS_hyperv := 12
STEPS_esxi := 1267200
LOOKS_esxi := 4
# What a search begins with where guests tell one thing alone (docs/rules.md): that counts more, and weights less, for the host is
# nearly always full, and there they are what its price is paid with. On Xen steps of half the size
# went further (.923 against .917 of validation)
START_xen := agent.train.start.guest_swap_in_rate=3 +agent.train.start.guest_swap_in_rate_60s=2 agent.train.start.weight=0 agent.train.sigma=0.15
START_hyperv := agent.train.start.guest_available=-7 agent.train.start.weight=1
FULL_ON := analytics-sweep,mixed-tenants,offices-kvm,tenants-kvm,crowd-kvm,services-xen,sparse-kvm
FULL_STEPS ?= 1728000
KINDS := hyperv kvm xen esxi
learned: venv
	$(MAKE) -j2 learned-full $(KINDS:%=learned-sizes-%)
	mkdir -p $(LEARNED)/learned_sizes-seed$(SEED)
	$(BIN)/python -m hvgym.agents.learned.by_statistics $(LEARNED)/learned_sizes-seed$(SEED)/best.json \
		$(foreach kind,$(KINDS),$(kind)=$(LEARNED)/sizes-$(kind)-seed$(SEED)/best.json)
	if [ $(SEED) = 0 ]; then for name in sizes full; do \
		cp $(LEARNED)/learned_$$name-seed0/best.json agents/learned/learned_$$name.json || exit 1; done; fi

# Moves and starts in clusters, as learned_moves of the package: ten minutes of a core. rack and never-converge are kept unseen.
MOVES_ON := hot-host,drain-deadline,unlike-hosts,n-plus-one,storm-1g
learned-moves: venv
	$(BIN)/hvgym train rules=default agent=es_moves 'scenario=[$(MOVES_ON)]' validation_seeds=4 agent.train.total_steps=1500000 seed=$(SEED) \
		out=$(LEARNED)/learned_moves-seed$(SEED) tracking=none
	if [ $(SEED) = 0 ]; then cp $(LEARNED)/learned_moves-seed0/best.json agents/learned/learned_moves.json; fi

learned-sizes-%:
	$(TRAIN) agent=es 'scenario=[$(ON_$*)]' agent.train.population=20 agent.train.seeds=1 agent.train.kill_cost_s=1200 \
		agent.train.total_steps=$(STEPS_$*) agent.train.validations=$(LOOKS_$*) $(START_$*) out=$(LEARNED)/sizes-$*-seed$(SEED)

learned-full:
	$(TRAIN) agent=es_full 'scenario=[$(FULL_ON)]' 'hypervisor=[kvm]' agent.train.population=16 agent.train.scenarios=3 \
		agent.train.total_steps=$(FULL_STEPS) agent.train.validations=4 out=$(LEARNED)/learned_full-seed$(SEED)

# docs/learned.md: both against production on test seeds, on other numbers of VMs, and with TRACES=DIR (files of GWA-T-12) on real
# demand; trainings of other seeds (make learned SEED=1 to 4) that are there are played too. Goes on where it stopped. Takes hours; a
# part alone (make learned-vms) and `docs/learned.py page runs/learned/studies` write that part's section and leave the others as
# they are. After a change of the model: rm -rf runs/learned/studies
RIVALS := best_constant_tuned,proportional_tuned,proxmox,proxmox_tuned,mom_vdsm,mom_vdsm_tuned,mom_upstream_tuned,capitulino,capitulino_tuned,greedy_tuned,tmo,tmo_tuned,esx,esx_equal,esx_equal_tuned,hyperv_like,hyperv_like_tuned,squeezed,squeezed_tuned,selfballoon,selfballoon_tuned,meb_tuned
JUDGED = learned_sizes,learned_full,cheapest_pages,coldest_first,free_page_reporting,$(RIVALS)
JUDGED_ON_STANDARD = $(subst $(space),$(comma),$(sort $(subst $(comma),$(space),$(JUDGED),$(RANKED))))
JUDGE = $(BIN)/hvgym bench --config-dir runs/learned/conf runs=runs/learned tracking=none
learned-docs: venv
	$(MAKE) learned-studies
	$(BIN)/python docs/learned.py page runs/learned/studies

learned-studies: learned-density learned-trainings learned-vms learned-real
	$(JUDGE) suite=standard study=standard agents=[$(JUDGED_ON_STANDARD)]
	for suite in standard_ood quick; do $(JUDGE) suite=$$suite study=$$suite agents=[$(JUDGED)] || exit 1; done

learned-scenarios: venv
	$(BIN)/python docs/learned.py scenarios runs/learned/conf $(LEARNED)

learned-vms: learned-scenarios
	$(JUDGE) suite=quick study=vms agents=[$(JUDGED)] \
		'scenario=[$(subst $(space),$(comma),$(foreach on,kvm esxi xen hyperv,$(foreach vms,4 8 16 64,tenants-$(on)-$(vms)vms)))]'

learned-real: learned-scenarios
	if [ -n "$(TRACES)" ]; then for name in kvm esxi xen hyperv; do $(JUDGE) suite=quick study=real-$$name hypervisor=$$name \
		workload=bitbrains workload.path="$(TRACES)" 'scenario=[idle-giants,cache-hogs,web-siblings]' agents=[$(JUDGED)] || exit 1; done; fi

# The spread over training seeds, against the rivals that are best on some scenario of standard
BEST_RIVALS := best_constant_tuned,hyperv_like_tuned,meb_tuned,esx_equal_tuned,greedy_tuned,proxmox_tuned,capitulino_tuned
learned-trainings: learned-scenarios
	others=$$(cd runs/learned/conf/agent && ls *.yaml 2> /dev/null | sed 's/.yaml$$//' | tr '\n' ','); if [ -n "$$others" ]; then \
		$(JUDGE) suite=standard study=trainings agents=[learned_sizes,learned_full,$(BEST_RIVALS),$${others%,}]; else \
		echo "make: no training of another seed is there; make learned SEED=1"; fi

DENSE = learned_sizes,learned_full,cheapest_pages,coldest_first,stock,$(subst $(space),$(comma),$(filter %_tuned,$(subst $(comma),$(space),$(RIVALS))))
learned-density:
	for name in kvm esxi xen hyperv; do $(BIN)/hvgym capacity scenario=tenants-$$name rules=default fleets=16 runs=runs/learned \
		tracking=none study=density-tenants-$$name agents=[$(DENSE)] || exit 1; done

# Generated demand against real; TRACES=DIR adds the VMs of a folder of GWA-T-12 files.
workloads: venv
	$(BIN)/python docs/workloads.py "$(TRACES)"

# What real guests boot from: kernel and busybox of Debian's packages, and the workload compiled here. Then: hvgym real
guests: venv
	$(BIN)/python -m hvgym.envs.real.guests.image runs/guests

# Ten experiments: page, pictures and notebook are what their commands give.
tour: venv
	$(BIN)/python docs/tour.py

# What a shield costs: agents with and without it on quick; AGENTS="es=best.json" others.
shield: venv
	$(BIN)/python docs/shield.py docs $(AGENTS)

# What PPO needs here, arm by arm and with five training seeds, and es beside it: half an hour of a core. Goes on where it stopped;
# after a change of the code: rm -rf runs/learning-ppo
learning-ppo: venv
	$(BIN)/python docs/learning_ppo.py runs/learning-ppo

policies: venv
	$(BIN)/python docs/policies.py

# Every key with unit, bounds and default; what each file of the model says of itself; outputs of the guides' commands.
configuration: venv
	$(BIN)/python docs/configuration.py

model-docs: venv
	$(BIN)/python docs/model.py

guides: venv
	$(BIN)/python docs/guides.py

# The same policies and stories on real guests and in the simulator: three to four minutes an episode. Plays what is not in
# runs/fidelity yet; the machine should have a processor to spare. SCENARIOS, POLICIES: names with commas; PLAY=false only writes the page.
fidelity: venv
	$(BIN)/python docs/fidelity.py runs/fidelity $(if $(SCENARIOS),scenarios=$(SCENARIOS)) $(if $(POLICIES),policies=$(POLICIES)) \
		$(if $(SEEDS),seeds=$(SEEDS)) $(if $(PLAY),play=$(PLAY))

# The documentation as a site in build/site, links and anchors checked; search in it wants a server:
# .venv/bin/python -m http.server -d build/site
site: venv
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

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
