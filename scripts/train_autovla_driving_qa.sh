#!/usr/bin/env bash
# Fast and slow thinking after AutoVLA on driving questions with options, Qwen2.5-VL-3B (configs/papers/
# autovla_driving_qa_sft.yaml, autovla_driving_qa.yaml). Trajectories and their simulator are out of scope: docs/methods/
# autovla.md. Written for one GPU of 80 GB, about 1 + 4 hours (an estimate: 30 s a step). Not yet run on one.
# usage: scripts/train_autovla_driving_qa.sh CHATS QUESTIONS TEST [key=value ...] [--resume] [--dry-run]
#   CHATS      rows of docs/data.md that end in an assistant turn `<think>...</think><answer>B</answer>`
#   QUESTIONS  rows to train on, with `target.answer`, a letter; TEST: the same, held out. AutoVLA's own are not published;
#              questions about driving are in https://github.com/OpenDriveLab/DriveLM
inputs=(chats=rows/chats.jsonl questions=rows/questions.jsonl test=rows/questions.jsonl)
base=Qwen/Qwen2.5-VL-3B-Instruct
source "$(dirname "$0")/start_training.sh"

data=data/autovla
make $data/dropped.jsonl transform "$chats" drop-thoughts share=0.5
make $data/two_modes.jsonl transform $data/dropped.jsonl name-modes
make $data/train.jsonl convert rows "$questions"
make $data/test.jsonl convert rows "$test"
cold_start models/autovla-sft configs/papers/autovla_driving_qa_sft.yaml
train configs/papers/autovla_driving_qa.yaml
