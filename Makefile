# pynode (C) and erlang_python (Erlang). `make help` lists the targets and the variables.

# --- Variables to override -------------------------------------------------------------------------------------------
PYTHON_CONFIG ?=
SANITIZER     ?=
PERF_BUILD    ?=
FAST_MATH     ?=
FUZZ          ?=
FUZZ_SECONDS  ?= 60
BENCH         ?=
SUITE         ?=
GROUP         ?=
CASE          ?=
PREFIX        ?= /usr/local
DESTDIR       ?=
V             ?=
ifeq ($(origin CC),default)
CC := gcc
endif
export PYTHON_CONFIG SUITE GROUP CASE FUZZ_SECONDS BENCH SANITIZER

VERSION := $(shell sed -n 's/.*{vsn, *"\([^"]*\)".*/\1/p' erlang_client/src/erlang_python.app.src 2>/dev/null)
Q       := $(if $(V),,@)
say      = $(if $(V),,@echo '  $(1)')
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.PHONY: all pynode client demo shell bench test unit ct valgrind fuzz run-fuzz lint spec-coverage tidy format install clean help chosen-python

# --- Python and ei: found once for each Python, kept in build/flags ---------------------------------------------------
# A PYTHON_CONFIG that was given is that of every later make as well (and of rebar3's hook), until another is given: else
# `make shell` would quietly build for the default one again.
CHOICE     := build/python-config
REMEMBERED := $(if $(PYTHON_CONFIG),,$(if $(wildcard $(CHOICE)),$(strip $(file <$(CHOICE)))))
PY_CHOSEN  := $(or $(PYTHON_CONFIG),$(REMEMBERED))
FLAGS      := build/flags/$(or $(subst /,_,$(PY_CHOSEN)),default).mk
ifneq ($(filter-out demo test setup format clean help,$(or $(MAKECMDGOALS),all)),)
include $(FLAGS)
endif
$(FLAGS): scripts/build-flags $(wildcard $(or $(PY_CHOSEN),/usr/bin/python3-config))
	@mkdir -p $(@D)
	@scripts/build-flags $(PY_CHOSEN) >$@$(if $(REMEMBERED), || { $(SAY_PYTHON) >&2; exit 1; })
SAY_PYTHON = echo '  Python of $(REMEMBERED), as remembered; PYTHON_CONFIG=... changes that, PYTHON_CONFIG=python3-config back to the default'
chosen-python: $(FLAGS)
ifneq ($(PYTHON_CONFIG),)
	@mkdir -p build
	@$(if $(PY_IS_DEFAULT),rm -f $(CHOICE),echo '$(PY_CONFIG)' >$(CHOICE))
else ifneq ($(REMEMBERED),)
	@$(SAY_PYTHON)
endif

# --- Flags: everything that changes an object file has its own build folder -------------------------------------------
B := build/py$(PY_TAG)$(if $(filter gcc,$(CC)),,-$(notdir $(CC)))$(if $(SANITIZER),-$(SANITIZER))$(if $(PERF_BUILD),-perf)$(if $(FUZZ),-fuzz)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Werror
DEFINES   = -D_GNU_SOURCE -DPYN_VERSION='"$(VERSION)"' -DPYN_EI_VERSION='"$(EI_VERSION)"' -DPYN_PYTHON='"$(PY_EXECUTABLE)"'
ifneq ($(SANITIZER)$(PERF_BUILD),)
# Some of gcc's warnings are guesses from what the optimizer saw; the standard build is the one that has to be clean.
WARNINGS += $(if $(findstring clang,$(CC)),,-Wno-format-truncation -Wno-maybe-uninitialized)
endif
OPTIMIZE := $(if $(SANITIZER)$(FUZZ),-O1 -fno-omit-frame-pointer,-O2)
ifneq ($(PERF_BUILD),)
# FAST_MATH is not part of it: -ffast-math assumes that there is no NaN and no infinity, but those are values that the
# type table promises to carry (float nan, inf and -inf become the atoms nan, infinity and neg_infinity).
OPTIMIZE := -O3 -flto=auto -march=native -funroll-loops $(if $(FAST_MATH),-ffast-math)
LTO_LINK := $(and $(findstring clang,$(CC)),$(shell command -v ld.lld),-fuse-ld=lld)
endif
SANITIZE := $(if $(SANITIZER),-fsanitize=$(SANITIZER)) $(if $(filter undefined,$(SANITIZER)),-fno-sanitize-recover=all)
ifneq ($(FUZZ),)
SANITIZE := -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined
endif
PYN_CFLAGS = -std=gnu11 -g $(OPTIMIZE) $(SANITIZE) $(WARNINGS) -pthread -Icnode $(DEFINES) $(CFLAGS)
PYN_LIBS   = $(EI_LIBS) $(PY_LIBS) -lm

# --- What is built ---------------------------------------------------------------------------------------------------
SRC      := $(sort $(wildcard cnode/*/*.c))
LIB_OBJ  := $(SRC:cnode/%.c=$(B)/%.o)
UNIT     := $(sort $(wildcard test/unit/test_*.c))
UNIT_BIN := $(UNIT:test/unit/%.c=$(B)/unit/%)
UNIT_AUX := $(patsubst test/unit/%.c,$(B)/unit/%.o,$(filter-out $(UNIT),$(wildcard test/unit/*.c)))
FUZZERS  := $(sort $(wildcard test/fuzz/fuzz_*.c))
FUZZ_BIN := $(FUZZERS:test/fuzz/%.c=$(B)/fuzz/%)
FUZZ_AUX := $(patsubst test/fuzz/%.c,$(B)/fuzz/%.o,$(filter-out $(FUZZERS),$(wildcard test/fuzz/*.c)))
# Valgrind is for the code that needs no Python.
PLAIN    := $(notdir $(basename $(wildcard $(addsuffix /*.c,$(addprefix cnode/,base etf dist sched app)))))
PLAIN_BIN = $(filter $(PLAIN:%=$(B)/unit/test_%),$(UNIT_BIN))
ERL_SRC  := $(wildcard erlang_client/src/* erlang_client/include/* erlang_client/rebar.config)
APP      := erlang_client/_build/default/lib/erlang_python

all: pynode client ## pynode and the OTP application
pynode: $(B)/pynode
	$(Q)ln -sfn $(notdir $(B))/pynode build/pynode
	$(Q)mkdir -p erlang_client/priv
	$(Q)cmp -s $< erlang_client/priv/pynode || install -m 755 $< erlang_client/priv/pynode
client: $(APP)/.built

$(B)/pynode: $(B)/main.o $(LIB_OBJ)
	$(call say,LD $@)
	$(Q)$(CC) $(PYN_CFLAGS) $(LDFLAGS) $(LTO_LINK) -o $@ $^ $(PYN_LIBS)
$(B)/libpynode.a: $(LIB_OBJ)
	$(call say,AR $@)
	$(Q)rm -f $@ && $(if $(PERF_BUILD),gcc-ar,$(AR)) rcs $@ $^

# Only the layers that may use Python.h or ei.h find them (docs/architecture.md).
$(B)/py/%.o $(B)/unit/%.o: LAYER_CFLAGS = $(PY_CFLAGS)
$(B)/etf/%.o $(B)/dist/%.o $(B)/unit/%.o $(B)/fuzz/%.o: LAYER_CFLAGS += $(EI_CFLAGS)
# It takes Python sources in by an assembler directive, which link-time optimization would look for at the wrong time.
$(B)/py/library.o: $(wildcard cnode/py/*.py cnode/py/lib/*.py)
$(B)/py/library.o: LAYER_CFLAGS += -fno-lto
$(B)/%.o: cnode/%.c $(B)/cflags
	$(call say,CC $<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(PYN_CFLAGS) $(LAYER_CFLAGS) -MMD -MP -c -o $@ $<
$(B)/unit/%.o $(B)/fuzz/%.o: LAYER_CFLAGS += -Itest -D_REENTRANT
$(B)/unit/%.o: test/unit/%.c $(B)/cflags
	$(call say,CC $<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(PYN_CFLAGS) $(LAYER_CFLAGS) $(CHECK_CFLAGS) -MMD -MP -c -o $@ $<
$(UNIT_BIN): $(B)/unit/%: $(B)/unit/%.o $(UNIT_AUX) $(B)/libpynode.a
	$(Q)$(CC) $(PYN_CFLAGS) $(LDFLAGS) $(LTO_LINK) -o $@ $^ $(CHECK_LIBS) $(PYN_LIBS)
$(B)/fuzz/%.o: test/fuzz/%.c $(B)/cflags
	$(call say,CC $<)
	$(Q)mkdir -p $(@D)
	$(Q)$(CC) $(PYN_CFLAGS) $(LAYER_CFLAGS) -MMD -MP -c -o $@ $<
$(FUZZ_BIN): $(B)/fuzz/%: $(B)/fuzz/%.o $(FUZZ_AUX) $(B)/libpynode.a
	$(Q)$(CC) $(PYN_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) -o $@ $^ $(PYN_LIBS)
CHECK_CFLAGS = $(shell pkg-config --cflags check)
CHECK_LIBS   = $(shell pkg-config --libs check)

# Changed flags (another Python of the same version, CFLAGS=...) build everything again.
$(B)/cflags: chosen-python
	@mkdir -p $(@D)
	@echo '$(subst ','\'',$(CC) $(PYN_CFLAGS) $(PY_CFLAGS) $(PY_LIBS))' | cmp -s - $@ || \
	 echo '$(subst ','\'',$(CC) $(PYN_CFLAGS) $(PY_CFLAGS) $(PY_LIBS))' >$@
-include $(patsubst %.o,%.d,$(B)/main.o $(LIB_OBJ) $(UNIT_AUX) $(FUZZ_AUX)) $(UNIT_BIN:%=%.d) $(FUZZ_BIN:%=%.d)

# The application finds pynode in its priv folder, which both ways of building link to.
$(APP)/.built: $(ERL_SRC) scripts/build-client
	$(call say,ERL erlang_client)
	$(Q)V=$(V) scripts/build-client
	$(Q)touch $@

# --- Running it ------------------------------------------------------------------------------------------------------
demo: ## install what is missing, build, run a cluster of three nodes that work
	@PYTHON_CONFIG='$(PY_CHOSEN)' scripts/setup build
	@$(MAKE) --no-print-directory all
	@scripts/demo
shell: all ## an Erlang shell with erlang_python running
	@scripts/shell
bench: all ## measure against a BEAM echo (BENCH: short, or some of: rates sizes speedup callbacks)
	@PYNODE=$(CURDIR)/$(B)/pynode scripts/bench $(BENCH)

# --- Tests -----------------------------------------------------------------------------------------------------------
test: ## install what is missing, build, run every test
	@PYTHON_CONFIG='$(PY_CHOSEN)' scripts/setup test
	@$(MAKE) --no-print-directory all
	+@MAKE="$(MAKE)" scripts/run-tests
unit: $(UNIT_BIN) ## the C test programs (SANITIZER=address|undefined|thread)
	@scripts/run-unit $(UNIT_BIN)
ct: all ## the Common Test suites (SUITE=, GROUP=, CASE= pick some)
	@PYNODE=$(CURDIR)/$(B)/pynode scripts/run-ct
valgrind: $(PLAIN_BIN) ## the C test programs outside py/ and svc/ under valgrind
	@scripts/run-unit --valgrind $(PLAIN_BIN)
fuzz: ## each fuzz target for FUZZ_SECONDS (clang)
	@$(MAKE) --no-print-directory FUZZ=1 CC=clang run-fuzz
run-fuzz: $(FUZZ_BIN)
	@scripts/run-fuzz $(FUZZ_BIN)

# --- Care ------------------------------------------------------------------------------------------------------------
lint: $(B)/libpynode.a ## layers, banned functions, sizes, exported symbols, links of docs, formatting
	@bad=0; for check in lint-layers lint-banned lint-docs 'lint-exports $<' 'format --check'; do \
	 scripts/$$check || bad=1; done; exit $$bad
spec-coverage: client ## what of docs/spec/api.md is not exported, specified, documented or tested
	@scripts/spec-coverage
tidy: chosen-python ## clang-tidy over cnode (slow)
	@printf '%s\n' $(SRC) cnode/main.c | xargs -P $(shell nproc) -I FILE clang-tidy --quiet --warnings-as-errors='*' FILE -- \
	 $(filter-out -Werror,$(PYN_CFLAGS)) $(PY_CFLAGS) $(EI_CFLAGS)
format: ## clang-format everything in place
	@scripts/format
install: all ## to $(DESTDIR)$(PREFIX): bin/pynode, lib/erlang/lib/erlang_python-VSN
	@DESTDIR='$(DESTDIR)' PREFIX='$(PREFIX)' scripts/install $(B)/pynode $(APP) $(VERSION)
clean: ## remove everything that was built
	rm -rf build erlang_client/_build erlang_client/priv/pynode examples/__pycache__
help: ## this text
	@scripts/make-help Makefile
