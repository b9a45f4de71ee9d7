# Two commands set everything up in .venv and run: make demo, make test.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
NIGHT := training/configs/night_student
TRAINED := build/training/night_student_own_vehicle
LONGER := build/training/night_student_longer
RELEASED := models/released/student
TORCHVISION := torchvision==0.28.0

# ROS 2 from wheels, kept to this machine.
export RMW_IMPLEMENTATION ?= rmw_fastrtps_cpp
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST

.PHONY: help demo test lint train-release recipes quantize ablation bench bench-node bench-evaluation bench-training clean

help:
	@echo 'make demo           replay a night drive through the node, report in build/demo'
	@echo 'make demo BAG=path  the same on a rosbag2;  FRAMES=folder  on a folder of images'
	@echo 'make test           lint and the whole test suite'
	@echo 'make train-release  train, export and quantise the released models from ../shared/data'
	@echo '                    two hours and a quarter on two cores'
	@echo 'make recipes        compare variants of the released recipe, 10 minutes each'
	@echo 'make ablation       compare the training methods on procedural streets, half an hour'
	@echo 'make quantize       FP16 and INT8 files of the released model, measured'
	@echo 'make bench          all of what follows'
	@echo 'make bench-node     latency of the node, against its floor and a common node; 6 minutes'
	@echo 'make bench-evaluation  offline evaluation against the bare network; 3 minutes'
	@echo 'make bench-training speed and memory of a training step of each method'
	@echo 'make clean          remove build/ and .venv'

$(READY): requirements.txt pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps $(TORCHVISION)
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $@

# Unset, the demo renders its own drive.
demo: $(READY)
	$(BIN)/night_seg_demo --output build/demo $(if $(BAG),--bag '$(BAG)') $(if $(FRAMES),--frames '$(FRAMES)') $(DEMO_ARGS)

test: $(READY) lint
	$(BIN)/python -m pytest $(TEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Goes on from the last checkpoint when interrupted. The larger file comes from a third stage, and
# without INT8: together the released files are to stay under 40 MB.
train-release: $(READY)
	$(BIN)/python -m training fit --config $(NIGHT).yaml
	$(BIN)/python -m training fit --config $(NIGHT).yaml --config $(NIGHT)_own_vehicle.yaml
	$(BIN)/python -m training average '[build/training/night_student/last.ckpt, $(TRAINED)/last.ckpt]'
	$(BIN)/python -m training calibrate $(TRAINED)/averaged.ckpt
	$(BIN)/python -m training export --output $(RELEASED)_384x640.onnx --height 384 --width 640
	$(BIN)/python -m training pseudo_label '[$(TRAINED)/averaged.ckpt]'
	$(BIN)/python -m training fit --config $(NIGHT).yaml --config $(NIGHT)_own_vehicle.yaml --config $(NIGHT)_nights.yaml --config $(NIGHT)_longer.yaml
	$(BIN)/python -m training average '[$(TRAINED)/averaged.ckpt, $(LONGER)/last.ckpt, $(LONGER)/last.ckpt]' --crops 384
	$(BIN)/python -m training calibrate $(LONGER)/averaged.ckpt --sizes '[[512, 1024], [320, 544]]'
	$(BIN)/python -m training export --checkpoint $(LONGER)/calibrated.ckpt --output $(RELEASED)_512x1024.onnx --height 512 --width 1024
	$(BIN)/python -m training quantize --model $(RELEASED)_384x640.onnx
	$(BIN)/python -m training quantize --model $(RELEASED)_512x1024.onnx --precisions '[fp16]'
	$(BIN)/python -m training card

# Variants of its recipe, side by side. Goes on where it was when interrupted.
recipes: $(READY)
	$(BIN)/python -m training recipes $(RECIPES_ARGS)

# Goes on where it was when interrupted.
ablation: $(READY)
	$(BIN)/python -m training ablation $(ABLATION_ARGS)

quantize: $(READY)
	$(BIN)/python -m training quantize

bench: bench-node bench-evaluation bench-training

bench-node: $(READY)
	$(BIN)/python -m benchmarks.node $(BENCH_NODE_ARGS)

bench-evaluation: $(READY)
	$(BIN)/python -m benchmarks.offline_evaluation $(BENCH_EVALUATION_ARGS)

bench-training: $(READY)
	$(BIN)/python -m benchmarks.training_step $(BENCH_TRAINING_ARGS)

clean:
	rm -rf build $(VENV)
