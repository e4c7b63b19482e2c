"""Wrong requests: exit code 2, one line that names the value and what is allowed, nothing touched.

The table is the whole contract for people who mistype: flags, configuration files, expressions,
operator files, data folders, run folders and addresses of every command. Each row runs in process
in one folder, whose every name, size, time and byte is the same afterwards; some rows run again as
processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from launch.cli import run
from launch.flags import build, to_json

OPERATORS = """
import jax.numpy as jnp
from spaces import Operator, PAPER
GOOD = PAPER.only("identity", "scale", "sin", "add", "mul").with_unary(
    Operator("bump", 1, lambda x: x * jnp.exp(-x * x))
)
OTHER = GOOD.without("sin")
MEAN = GOOD.with_unary(Operator("mean", 1, lambda x: x - x.mean()))
NUMBER = 3
"""

OPERATOR_FILES = {
    "ops.py": OPERATORS,
    "changed.py": OPERATORS + "# another text\n",
    "syntax.py": "OPS = (\n",
    "raises.py": "\n\n1 / 0\n",
    "quits.py": "raise SystemExit('good bye')\n",
    "nothing.py": "x = 1\n",
    "twice.py": "from spaces import PAPER\nPAPER.with_unary(PAPER['tanh'])\n",
    "misspelt.py": "from spaces import PAPER\nOPS = PAPER.only('identity', 'sigmiod', 'add')\n",
    "misnamed.py": "from spaces import Operator\nOperator('2x', 1, lambda x: 2 * x)\n",
    "arity.py": "from spaces import Operator\nOperator('third', 3, lambda x, y, z: x)\n",
}

CONFIGS: Mapping[str, str | bytes] = {
    "torn.json": '{"train": {"steps": 3',
    "empty.json": "",
    "binary.json": b"\xff\xfe\x00\x01",
    "nested.json": "[" * 100_000,
    "digits.json": '{"train": {"steps": ' + "9" * 6_000 + "}}",
    "list.json": "[1, 2]",
    "word.json": '"train"',
    "newer.json": '{"version": 2}',
    "versionless.json": '{"version": "one"}',
    "section.json": '{"trian": {"steps": 3}}',
    "unknown.json": '{"zzz": {}}',
    "flat.json": '{"steps": 3}',
    "section_is_list.json": '{"train": [3]}',
    "entry.json": '{"train": {"stpes": 3}}',
    "entry_unknown.json": '{"train": {"zzz": 3}}',
    "text_for_number.json": '{"train": {"steps": "3"}}',
    "bool_for_number.json": '{"train": {"steps": true}}',
    "number_for_bool.json": '{"train": {"augment": 1}}',
    "null.json": '{"train": {"steps": null}}',
    "nan.json": '{"train": {"lr": NaN}}',
    "huge.json": '{"train": {"lr": 1' + "0" * 400 + "}}",
    "range.json": '{"train": {"steps": 0}}',
    "strategy.json": '{"search": {"strategy": "evolutoin"}}',
    "from.json": '{"from": 3}',
    "long.json": " " * 1_000_001,
    "controller.json": '{"controller": {"hiden": 3}}',
}

LONG = "a" * 300
"""No file system has a name so long."""

# Command line, then what its one line says: the value, and what is allowed.
ROWS: list[tuple[str, str]] = [
    # Commands
    ("serach", 'Unknown command "serach". Did you mean "search"?'),
    ("zebra", 'Unknown command "zebra". Available commands: search, resume, top, show, watch'),
    ("--presett quick", 'Unknown command "--presett". Available commands: search, resume'),
    ("operators chekc", "unknown command 'chekc': did you mean `check`?"),
    # search: flags
    ("search --stpes 3", "Unknown option: --stpes. Did you mean --steps?"),
    ("search --zzz 3", "Unknown option: --zzz. See actsearch search --help"),
    ("search --runs-dir new", "Unknown option: --runs-dir. Did you mean --run-dir?"),
    ("search extra", "unexpected 'extra'. See actsearch search --help"),
    ("search --steps", "--steps requires an argument"),
    ("search --steps many", 'Invalid value for --steps: unable to convert "many" into int'),
    ("search --steps 2.5", 'unable to convert "2.5" into int'),
    ("search --steps 1e3", 'unable to convert "1e3" into int'),
    (f"search --steps {'9' * 5000}", 'Invalid value for --steps: unable to convert "999'),
    ("search --steps 3 --steps 4", "Parameter --steps specified multiple times"),
    ("search --steps 0", "`steps` must be ≥ 1, got 0"),
    ("search --steps -5", "`steps` must be ≥ 1, got -5"),
    ("search --json=3", 'Invalid value for --json: unable to convert "3" into bool'),
    ("search --nesterov maybe", "unexpected 'maybe'. See actsearch search --help"),
    ("search --preset qiuck", "`preset` must be one of quick, cifar10, paper, got 'qiuck': did you "
     "mean `quick`?"),
    ("search --preset ''", "`preset` must be one of quick, cifar10, paper, got ''"),
    ("search --strategy controler", "`strategy` must be one of exhaustive, random, controller, "
     "evolution, got 'controler': did you mean `controller`?"),
    ("search --strategy bayes", "`strategy` must be one of exhaustive, random, controller, "
     "evolution, got 'bayes'"),
    ("search --execution trased", "`execution` must be one of auto, traced, specialised, got "
     "'trased': did you mean `traced`?"),
    ("search --trials 0", "`trials` must be ≥ 1, got 0"),
    ("search --replicates 0", "`replicates` must be ≥ 1, got 0"),
    ("search --window 0", "`window` must be ≥ 1, got 0"),
    ("search --seed -1", "`seed` must be 0 to 2147483647, got -1"),
    ("search --seed 2147483648", "`seed` must be 0 to 2147483647, got 2147483648"),
    ("search --core-units 0", "`core_units` must be 1 to 8, got 0"),
    ("search --core-units 9", "`core_units` must be 1 to 8, got 9"),
    ("search --baselines relu,swihs", "unknown baseline `swihs`: did you mean `swish`?"),
    ("search --baselines relu,", "unknown baseline ``, must be one of relu, lrelu"),
    ("search --baselines zzzzzz", "unknown baseline `zzzzzz`, must be one of relu, lrelu"),
    ("search --baselines nnoe", "unknown baseline `nnoe`: did you mean `none`?"),
    ("search --rungs 60", "`rungs` must be STEPS:COUNT pairs with commas between, as "
     "60:400,1500:12, got '60'"),
    ("search --rungs 60:400,", "`rungs` must be STEPS:COUNT pairs with commas between, as "
     "60:400,1500:12, got '60:400,'"),
    ("search --rungs 60:0", "`rungs` must have numbers ≥ 1, got '60:0'"),
    ("search --rungs 3000000000:1", "`rungs` must have steps < 2147483648, got '3000000000:1'"),
    ("search --ship", "`ship` takes code to a cluster: name one as `address`, or say --no-ship"),
    ("search --address auto --node-timeout soon", "`node_timeout` must be seconds, or a number "),
    ("search --rungs 300:60,60:12", "`rungs` must have increasing steps, the last two may be "
     "equal, got '300:60,60:12'"),
    (f"search --rungs {'9' * 5000}:3", "`rungs` must be STEPS:COUNT pairs"),
    ("search --rungs ²:3", "`rungs` must be STEPS:COUNT pairs"),
    ("search --dataset cifar", "`dataset` must be one of cifar10, cifar100, digits, fashion_mnist, "
     "mnist, got 'cifar': did you mean `cifar10`?"),
    ("search --dataset imagenet", "`dataset` must be one of cifar10, cifar100, digits, "
     "fashion_mnist, mnist, got 'imagenet'"),
    ("search --dataset ''", "`dataset` must be the name of a data set, got ''"),
    ("search --child resnet9", "`child` must be resnet8, resnet14, resnet20, … (6n+2 layers), got "
     "'resnet9'; the nearest are resnet8 and resnet14"),
    ("search --child vgg", "`child` must be resnet8, resnet14, resnet20, … (6n+2 layers), got 'vgg'"),
    ("search --width 0", "`width` must be ≥ 1, got 0"),
    ("search --image-size 0", "`image_size` must be ≥ 1, got 0"),
    ("search --image-size 100000", "`image_size` must be between 1 and"),
    ("search --valid-size 0", "`valid_size` must be ≥ 1, got 0"),
    ("search --valid-size 1500", "`valid_size` must be between 1 and 1499 for digits, got 1500"),
    ("search --batch-size 0", "`batch_size` must be ≥ 1, got 0"),
    ("search --batch-size 5000", "`batch_size` must be ≤ 1200, the number of training images of "
     "digits, got 5000"),
    ("search --lr 0", "`lr` must be > 0, got 0.0"),
    ("search --lr nan", "`lr` must be a finite number, got nan"),
    ("search --lr inf", "`lr` must be a finite number, got inf"),
    ("search --lr 0,1", 'Invalid value for --lr: unable to convert "0,1" into float'),
    ("search --momentum 1", "`momentum` must be in [0, 1), got 1.0"),
    ("search --weight-decay -1", "`weight_decay` must be ≥ 0, got -1.0"),
    ("search --schedule cosin", "`schedule` must be one of cosine, step, constant, got 'cosin': "
     "did you mean `cosine`?"),
    ("search --warmup 5", "`warmup` must be a share of the steps in [0, 1), for example 0.05, got 5.0"),
    ("search --precision float16", "`precision` must be one of float32, bfloat16, got 'float16': "
     "did you mean `bfloat16`?"),
    ("search --beta-init inf", "`beta_init` must be a finite number, got inf"),
    ("search --controller-hidden 0", "`hidden` must be ≥ 1, got 0"),
    ("search --controller-clip 0", "`clip` must be > 0 and finite, got 0.0"),
    ("search --controller-entropy-weight nan", "`entropy_weight` must be ≥ 0 and finite, got nan"),
    ("search --controller-baseline-decay 1", "`baseline_decay` must be in [0, 1), got 1.0"),
    ("search --evolution-population 0", "`population` must be ≥ 1, got 0"),
    ("search --evolution-tournament 0", "`tournament` must be ≥ 1, got 0"),
    ("search --evolution-populatoin 3", "Unknown option: --evolution-populatoin. Did you mean "
     "--evolution-population?"),
    # search: placement and addresses
    ("search --workers 0", "`workers` must be auto or a number ≥ 1, got '0'"),
    ("search --workers atuo", "`workers` must be auto or a number ≥ 1, got 'atuo': did you mean "
     "`auto`?"),
    ("search --workers -2", "`workers` must be auto or a number ≥ 1, got '-2'"),
    (f"search --workers {'9' * 5000}", "`workers` must be auto or a number ≥ 1, got '999"),
    ("search --workers ²", "`workers` must be auto or a number ≥ 1, got '²'"),
    ("search --cpus-per-worker 0", "`cpus_per_worker` must be ≥ 1, got 0"),
    ("search --gpus-per-worker -1", "`gpus_per_worker` must be ≥ 0, got -1.0"),
    ("search --gpus-per-worker 1.5", "`gpus_per_worker` must be a whole number above 1, got 1.5"),
    ("search --gpus-per-worker nan", "`gpus_per_worker` must be ≥ 0, got nan"),
    ("search --resources TPU=4", "`resources` must be a JSON object of positive numbers, whole above "
     "1, as {\"TPU\": 4}, got 'TPU=4'"),
    ("search --resources '{\"TPU\": 1.5}'", "`resources` must be a JSON object of positive numbers, "
     "whole above 1"),
    ("search --resources '{\"TPU\": 0}'", "`resources` must be a JSON object of positive numbers"),
    ("search --resources '{\"TPU\": Infinity}'", "`resources` must be a JSON object of positive "
     "numbers, whole above 1, as {\"TPU\": 4}, got '{\"TPU\": Infinity}'"),
    (f"search --resources '{'[' * 5000}'", "`resources` must be a JSON object of positive numbers"),
    ("search --resources '{\"CPU\": 4}'", "`resources` must not name CPU, which is "
     "`--cpus-per-worker`"),
    ("search --time-limit soon", "`time_limit` must be seconds, or a number with s, m, h or d, as "
     "90m, got 'soon'"),
    ("search --time-limit -1", "`time_limit` must be seconds, or a number with s, m, h or d, as "
     "90m, got '-1'"),
    ("search --time-limit 3w", "`time_limit` must be seconds, or a number with s, m, h or d, as "
     "90m, got '3w'"),
    ("search --grace -1", "`grace` must be ≥ 0 seconds, got -1.0"),
    ("search --address rubbish --run-dir new", "`address` must be auto, HOST:PORT or "
     "ray://HOST:PORT, got 'rubbish'"),
    ("search --address atuo --run-dir new", "got 'atuo': did you mean `auto`?"),
    ("search --address 127.0.0.1:99999 --run-dir new", "`address` must be auto, HOST:PORT or "
     "ray://HOST:PORT, got '127.0.0.1:99999'"),
    ("search --address http://127.0.0.1:6379 --run-dir new", "`address` must be auto, HOST:PORT or "
     "ray://HOST:PORT, got 'http://127.0.0.1:6379'"),
    ("search --address ray://127.0.0.1:1 --run-dir new", "`address`: no Ray cluster answers at "
     "'ray://127.0.0.1:1' (127.0.0.1 port 1: Connection refused)"),
    ("search --address 127.0.0.2:1 --run-dir new", "`address`: no Ray cluster answers at "
     "'127.0.0.2:1' (127.0.0.2 port 1: Connection refused)"),
    ("resume finished --address 127.0.0.2:1", "`address`: no Ray cluster answers at '127.0.0.2:1'"),
    # search: data folders
    ("search --dataset cifar10 --data-dir nowhere", "`data_dir` must be an existing folder, got "
     "nowhere"),
    ("search --dataset cifar10 --data-dir file.txt", "`data_dir` must be a folder, got the file "
     "file.txt"),
    ("search --dataset cifar10 --data-dir stuff", "stuff holds no cifar10: expected "
     "data_batch_1.bin (official binary form), there or under cifar-10-batches-bin"),
    ("search --dataset cifar10 --data-dir cut", "cut/data_batch_1.bin holds 3,000 bytes, expected "
     "30,730,000 bytes (10,000 records of 3,073)"),
    ("search --dataset cifar10 --data-dir hollow", "hollow/data_batch_1.bin is not a regular file: "
     "expected 30,730,000 bytes"),
    ("search --dataset cifar10 --data-dir zipped", "zipped/data_batch_1.bin.gz is not a whole gzip "
     "file"),
    ("search --dataset cifar100 --data-dir cut", "cut holds no cifar100: expected train.bin"),
    ("search --dataset mnist --data-dir cut", "train-images-idx3-ubyte starts with the bytes 00 00"),
    ("search --dataset mnist --data-dir stuff", "stuff holds no mnist: expected train-images"),
    # search: configuration files
    ("search --config nowhere.json", "cannot read nowhere.json: No such file or directory"),
    ("search --config stuff", "cannot read stuff: Is a directory"),
    ("search --config torn.json", "torn.json is no JSON: Expecting ',' delimiter: line 1 column 22"),
    ("search --config empty.json", "empty.json is no JSON: Expecting value"),
    ("search --config binary.json", "binary.json is no JSON: 'utf-8' codec can't decode byte 0xff"),
    ("search --config nested.json", "nested.json is no JSON: maximum recursion depth exceeded"),
    ("search --config digits.json", "digits.json is no JSON: Exceeds the limit (4300 digits)"),
    ("search --config list.json", "list.json must hold a JSON object of sections space, search"),
    ("search --config word.json", "word.json must hold a JSON object of sections space, search"),
    ("search --config newer.json", "newer.json has version 2, this actsearch reads 1"),
    ("search --config versionless.json", "versionless.json has version 'one', this actsearch reads 1"),
    ("search --config section.json", "unknown section `trian`: did you mean `train`?"),
    ("search --config unknown.json", "unknown section `zzz`; sections are space, search, train"),
    ("search --config flat.json", "unknown section `steps`; it is an entry of section `train`"),
    ("search --config section_is_list.json", "section_is_list.json: `train` must be a JSON object, "
     "got [3]"),
    ("search --config entry.json", "entry.json: unknown entry `train.stpes`: did you mean `steps`?"),
    ("search --config entry_unknown.json", "unknown entry `train.zzz`; entries are dataset, "
     "image_size"),
    ("search --config text_for_number.json", "`train.steps` must be int, got '3'"),
    ("search --config bool_for_number.json", "`train.steps` must be int, got True"),
    ("search --config number_for_bool.json", "`train.augment` must be bool, got 1"),
    ("search --config null.json", "`train.steps` must be int, got None"),
    ("search --config nan.json", "`lr` must be a finite number, got nan"),
    ("search --config huge.json", "`train.lr` must be float, got 1000"),
    ("search --config range.json", "`steps` must be ≥ 1, got 0"),
    ("search --config strategy.json", "got 'evolutoin': did you mean `evolution`?"),
    ("search --config from.json", "from.json: `from` must be a JSON object, got 3"),
    ("search --config controller.json", "unknown entry `controller.hiden`: did you mean `hidden`?"),
    ("search --config long.json", "long.json must have at most 1,000,000 bytes, has more"),
    ("search --config /dev/zero", "/dev/zero must have at most 1,000,000 bytes, has more"),
    (f"search --config {LONG}", "File name too long"),
    ("search --config torn.json --steps 3", "torn.json is no JSON"),
    # search: operator files
    ("search --operators paper2", "`operators` must be paper, FILE.py[:NAME] or module:NAME, got "
     "'paper2': did you mean `paper`?"),
    ("search --operators nowhere.py:OPS", "cannot read operators from nowhere.py: No such file"),
    ("search --operators stuff:OPS", "cannot import stuff: "),
    ("search --operators no_such_module:OPS", "cannot import no_such_module: ModuleNotFoundError: "
     "No module named 'no_such_module'"),
    ("search --operators json:dumps", "json has function, not an operator set `dumps`; it holds none"),
    ("search --operators ops.py:GOD", "ops.py has no operator set `GOD`: did you mean `GOOD`?"),
    ("search --operators ops.py:NUMBER", "ops.py has int, not an operator set `NUMBER`"),
    ("search --operators ops.py", "ops.py makes 3 operator sets: name one, ops.py:GOOD or "
     "ops.py:OTHER or ops.py:MEAN"),
    ("search --operators ops.py:", "`operators` must be paper, FILE.py[:NAME] or module:NAME, got "
     "'ops.py:'"),
    ("search --operators ops.py:MEAN", "operators ops.py:MEAN: mean: must be element-wise"),
    ("search --operators syntax.py", "syntax.py, line 1: SyntaxError: '(' was never closed"),
    ("search --operators raises.py", "raises.py, line 3: ZeroDivisionError: division by zero"),
    ("search --operators quits.py", "quits.py, line 1: SystemExit: good bye"),
    ("search --operators nothing.py", "nothing.py makes no operator set"),
    ("search --operators twice.py", "has two operators called 'tanh'"),
    ("search --operators misspelt.py", "unknown operator `sigmiod`: did you mean `sigmoid`?"),
    ("search --operators misnamed.py", "misnamed.py, line 2: ValueError"),
    ("search --operators arity.py", "arity.py, line 2: ValueError"),
    ("search --operators latin.py", "cannot read operators from latin.py: not a UTF-8 text file"),
    # search: run folders
    ("search --run-dir stuff", "`run_dir` must be a new or empty folder, or a run; stuff is neither"),
    ("search --run-dir file.txt", "`run_dir` must be a new or empty folder, or a run; file.txt is "
     "neither"),
    (f"search --run-dir {LONG}", "File name too long"),
    ("search --run-dir file.txt/new", "`run_dir`: cannot write file.txt/new: Not a directory"),
    ("search --run-dir finished --steps 7", "finished holds a run that asked for something else: "),
    ("search --run-dir torn", "torn/config.json is no JSON"),
    ("search --from nowhere --run-dir new", "`from`: nowhere does not exist"),
    ("search --from file.txt --run-dir new", "`from`: file.txt holds no config.json: it is no run"),
    ("search --from finished --run-dir new --steps 7", "`from`: what finished knows is of other "
     "trainings: `steps` is 100 there, 7 here"),
    ("search --from own --run-dir new", "own was made with operators of its own: name them, or "
     "others, --operators ops.py:GOOD"),
    ("search --from journalless --run-dir new", "journalless holds no journal.sqlite: it is no run"),
    # resume
    ("resume", "requires an argument. See actsearch resume --help"),
    ("resume nowhere", "nowhere does not exist"),
    ("resume file.txt", "file.txt holds no config.json: it is no run"),
    ("resume stuff", "stuff holds no config.json: it is no run"),
    ("resume journalless", "journalless holds no journal.sqlite: it is no run"),
    ("resume newer", "newer/config.json has version 2, this actsearch reads 1"),
    ("resume finished --steps 3", "Unknown option: --steps. "),
    ("resume finished --workers none", "`workers` must be auto or a number ≥ 1, got 'none'"),
    ("resume finished --time-limit 1y", "`time_limit` must be seconds, or a number with s, m, h or d"),
    ("resume finished extra", "unexpected 'extra'. See actsearch resume --help"),
    ("resume own", "own was made with operators of its own: name them again, --operators ops.py:GOOD"),
    ("resume own --operators ops.py:GOD", "ops.py has no operator set `GOD`: did you mean `GOOD`?"),
    ("resume own --operators paper", "`operators`: paper is not what own was made with (SHA-256"),
    ("resume own --operators changed.py:GOOD", "`operators`: changed.py:GOOD is not what own was "
     "made with (SHA-256"),
    # top
    ("top", "requires an argument. See actsearch top --help"),
    ("top nowhere", "nowhere does not exist"),
    (f"top {LONG}", "File name too long"),
    ("top file.txt", "file.txt holds no config.json: it is no run"),
    ("top stuff", "stuff holds no config.json: it is no run"),
    ("top torn", "torn/config.json is no JSON"),
    ("top newer", "newer/config.json has version 2, this actsearch reads 1"),
    ("top journalless", "journalless holds no journal.sqlite: it is no run"),
    ("top garbled", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    ("top hollowed", "hollowed/journal.sqlite: "),
    ("top schema", "schema/journal.sqlite has schema version 99, this actsearch reads 3: update actsearch"),
    ("top finished --limit 0", "`limit` must be ≥ 1, got 0"),
    ("top finished --limit x", 'Invalid value for --limit: unable to convert "x" into int'),
    ("top finished --by lose", 'Invalid value "lose" for --by. Choose from: "reward", "loss", '
     '"seconds", "trials". Did you mean "loss"?'),
    ("top finished --json --csv", "`json` and `csv` exclude each other"),
    ("top finished --name swihs", "`name`: no function is known as 'swihs': did you mean `swish`?"),
    ("top finished --name zzzzzz", "`name`: no function is known as 'zzzzzz', must be one of relu"),
    ("top finished --contains sigmiod", "`contains`: no operator is called 'sigmiod': did you mean "
     "`sigmoid`?"),
    ("top finished --contains zzzzzz", "`contains`: no operator is called 'zzzzzz', must be one of "
     "abs"),
    ("top finished --contains identity", "`contains` cannot be `identity`: expressions leave it out"),
    ("top finished --contians sin", "Unknown option: --contians. Did you mean --contains?"),
    ("top finished other", "unexpected 'other'. See actsearch top --help"),
    # show
    ("show finished", "requires an argument. See actsearch show --help"),
    ("show nowhere 1", "nowhere does not exist"),
    ("show garbled 1", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    ("show finished 0", "`candidate` must be a rank from 1 to"),
    ("show finished -1", "an expression or a name, got -1"),
    ("show finished 99999", "an expression or a name, got 99999"),
    ("show finished ²", "`candidate`: finished has met no '²'"),
    (f"show finished {'9' * 5000}", "`candidate`: finished has met no '9999"),
    ("show finished rleu", "`candidate`: finished has met no 'rleu': did you mean `relu`?"),
    ("show finished 'sigmiod(x)'", "expression, column 1: unknown operator `sigmiod`: did you mean "
     "`sigmoid`?"),
    ("show finished 'mul(x'", "expression, column 6: expected `)`"),
    ("show finished gelu", "`candidate`: finished has met no function known as GELU"),
    ("show finished swish --plot picture.gif", "`plot` must end in .png or .svg, got 'picture.gif'"),
    (f"show finished swish --plot {LONG}/a.png", "File name too long"),
    ("show finished swish --plot nowhere/a.png", "`plot`: there is no folder nowhere"),
    ("show finished swish --plot pictures.png", "`plot`: cannot write pictures.png: Is a directory"),
    # watch
    ("watch nowhere --once", "nowhere does not exist"),
    ("watch finished --interval 0", "`interval` must be > 0 seconds, got 0"),
    ("watch finished --interval nan", "`interval` must be > 0 seconds, got nan"),
    ("watch finished --limit 0", "`limit` must be ≥ 1, got 0"),
    ("watch finished --onec", "Unknown option: --onec. Did you mean --once?"),
    ("watch journalless --once", "journalless holds no journal.sqlite: it is no run"),
    ("watch garbled", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    # report
    ("report nowhere", "nowhere does not exist"),
    ("report finished --output page.pdf", "`output` must be a file that ends in .html, got page.pdf"),
    ("report finished --output nowhere/a.html", "`output` must be a file in a folder that is there, "
     "got nowhere/a.html"),
    ("report finished --output page.html", "`output` must be a file in a folder that is there, got "
     "page.html"),
    ("report finished --against nowhere", "nowhere does not exist"),
    ("report garbled", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    ("report finished --agianst other", "Unknown option: --agianst. Did you mean --against?"),
    # compare
    ("compare", "`runs` must be two folders at least, got 0"),
    ("compare finished", "`runs` must be two folders at least, got 1"),
    ("compare finished finished", "`runs`: finished is named twice"),
    ("compare finished ./other/../finished", "is named twice"),
    ("compare finished nowhere", "nowhere does not exist"),
    ("compare finished other", "these runs cannot be compared: `steps` is"),
    ("compare finished garbled", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    ("compare finished other --plot a.jpg", "`plot` must end in .png or .svg, got 'a.jpg'"),
    ("compare finished other --anyway --plot nowhere/a.png", "`plot`: there is no folder nowhere"),
    # export
    ("export swish", "parameter --to requires an argument. See actsearch export --help"),
    ("export --to jax", "requires an argument. See actsearch export --help"),
    ("export swish --to jx", "`to` must be one of jax, flax, torch, sympy, latex, got 'jx': did you "
     "mean `jax`?"),
    ("export swish --to keras", "`to` must be one of jax, flax, torch, sympy, latex, got 'keras'"),
    ("export swihs --to jax", "`candidate`: no function is known as 'swihs': did you mean `swish`?"),
    ("export zzzzzz --to jax", "unknown name `zzzzzz`"),
    ("export '' --to jax", "expression, column 1: the expression ends too early"),
    ("export 'sigmiod(x)' --to jax", "expression, column 1: unknown operator `sigmiod`: did you mean "
     "`sigmoid`?"),
    ("export 'zzzzzz(x)' --to jax", "unknown operator `zzzzzz`; operators of 'paper': abs"),
    ("export 'sigmoid' --from-run nowhere --to jax", "nowhere does not exist"),
    ("export 'mul(x)' --to jax", "`mul` takes 2 inputs, got 1"),
    ("export 'sigmoid(x, x)' --to jax", "`sigmoid` takes one input, got 2"),
    ("export 'mul(x, tanh)' --to jax", "expression, column 8: `tanh` needs one input in parentheses"),
    ("export 'mul(x, x' --to jax", "expression, column 9: expected `)`"),
    ("export 'mul(x, x))' --to jax", "expression, column 10: unexpected `)`"),
    ("export 'mul(x,, x)' --to jax", "expression, column 7: expected an operator or x, got `,`"),
    ("export 'mul(x, y)' --to jax", "expression, column 8: unknown name `y`"),
    ("export 'u1 = sin(x); u1 = cos(x); u1' --to jax", "`u1` is named twice"),
    ("export 'v = sin(x); mul(v, v)' --to jax", "a unit must be called u1, u2, …, got `v`"),
    ("export '__import__(\"os\")' --to jax", "expression, column 1: unknown operator `__import__`"),
    (f"export '{'sin(' * 65}x{')' * 65}' --to jax", "nested deeper than 64"),
    (f"export '{'(' * 3000}' --to jax", "expression, column 1: expected an operator or x, got `(`"),
    (f"export '{'x' * 4001}' --to jax", "an expression must have at most 4000 characters, got 4001"),
    ("export 3 --to jax", "`candidate`: the rank 3 needs `--from-run RUN`"),
    ("export 999 --from-run finished --to jax", "an expression or a name, got 999"),
    ("export swish --to jax --name class", "`name` must be a Python name with no meaning of its own, "
     "got 'class'"),
    ("export swish --to jax --name 2x", "`name` must be a Python name with no meaning of its own, "
     "got '2x'"),
    ("export swish --to jax --output stuff", "`output` must be a file in a folder that is there, got "
     "stuff"),
    ("export swish --to jax --output nowhere/a.py", "`output` must be a file in a folder that is "
     "there, got nowhere/a.py"),
    ("export 'bump(x)' --to torch --operators ops.py:GOOD", "`bump` has no torch form"),
    ("export 1 --from-run own --to jax", "own was made with operators of its own: name them, "
     "--operators ops.py:GOOD"),
    ("export 1 --from-run own --operators changed.py:GOOD --to jax", "`operators`: changed.py:GOOD "
     "is not what own was made with (SHA-256"),
    ("export 1 --from-run garbled --to jax", "garbled/journal.sqlite: file is not a database: it is damaged or no journal"),
    # space
    ("space --core-units 9", "`core_units` must be 1 to 8, got 9"),
    ("space --core-units one", 'Invalid value for --core-units: unable to convert "one" into int'),
    ("space --sample 0", "`sample` must be ≥ 1, got 0"),
    ("space --operators papre", "`operators` must be paper, FILE.py[:NAME] or module:NAME, got "
     "'papre': did you mean `paper`?"),
    ("space --operators ops.py:MEAN", "operators ops.py:MEAN: mean: must be element-wise"),
    ("space paper", "unexpected 'paper'. See actsearch space --help"),
    # operators, operators check
    ("operators nowhere.py:OPS", "cannot read operators from nowhere.py: No such file or directory"),
    ("operators stuff", "`operators` must be paper, FILE.py[:NAME] or module:NAME, got 'stuff'"),
    ("operators ops.py:MEAN", "operators ops.py:MEAN: mean: must be element-wise"),
    ("operators ops.py:GODO", "ops.py has no operator set `GODO`: did you mean `GOOD`?"),
    ("operators check", "requires an argument. See actsearch operators check --help"),
    ("operators check syntax.py", "syntax.py, line 1: SyntaxError"),
    ("operators check ops.py:GOOD --plot a.txt", "`plot` must end in .png or .svg or .pdf, got "
     "'a.txt'"),
    ("operators check ops.py:GOOD --plot nowhere/a.png", "`plot`: there is no folder nowhere"),
    ("operators check papre", "got 'papre': did you mean `paper`?"),
    # bench
    ("bench --preset qiuck", "`preset` must be one of quick, cifar10, paper, got 'qiuck'"),
    ("bench --steps 0", "`steps` must be ≥ 1, got 0"),
    ("bench --candidates 0", "`candidates` must be ≥ 1, got 0"),
    ("bench --seconds 0", "`seconds` must be > 0, got 0.0"),
    ("bench --seconds nan", "`seconds` must be > 0, got nan"),
    ("bench --processes 0", "`processes` must be ≥ 1, got 0"),
    ("bench --processes 9999", "`processes`: 9999 of 1 cores each do not fit"),
    ("bench --batch-size 5000", "`batch_size` must be ≤ 1200"),
    ("bench --config entry.json", "unknown entry `train.stpes`: did you mean `steps`?"),
    ("bench --dataset cifar10 --data-dir cut", "cut/data_batch_1.bin holds 3,000 bytes"),
    ("bench --operators ops.py:GOD", "ops.py has no operator set `GOD`: did you mean `GOOD`?"),
    # cluster template
    ("cluster tempalte", 'Unknown command "tempalte". Did you mean "template"?'),
    ("cluster zzz", 'Unknown command "zzz". Available commands: template.'),
    ("cluster template", "requires an argument. See actsearch cluster template --help"),
    ("cluster template slrum", "`name` must be one of bare, slurm, kuberay, gcp-tpu, got 'slrum': "
     "did you mean `slurm`?"),
    ("cluster template ''", "`name` must be one of bare, slurm, kuberay, gcp-tpu, got ''"),
    ("cluster template bare slurm", "unexpected 'slurm'. See actsearch cluster template --help"),
    ("cluster template bare --ouput a.yaml", "Unknown option: --ouput. Did you mean --output?"),
    ("cluster template bare --output file.txt", "`output`: file.txt is there already: name another"),
    ("cluster template bare --output stuff", "`output`: stuff is there already: name another"),
    ("cluster template bare --output nowhere/a.yaml", "`output` must be a file in a folder that is "
     "there, got nowhere/a.yaml"),
    ("cluster template bare --output ''", "`output` must be a file in a folder that is there, got ."),
    ("cluster template bare --output .", "`output` must be a file in a folder that is there, got ."),
    (f"cluster template bare --output {LONG}", "File name too long"),
]  # fmt: skip

AS_PROCESSES = (
    "serach",
    "search --strategy controler",
    "search --config nested.json",
    "search --dataset cifar10 --data-dir cut",
    "search --operators ops.py:GOD",
    "search --address 127.0.0.2:1 --run-dir new",
    "top garbled",
    "show finished 'sigmiod(x)'",
    "export 'sigmiod(x)' --to jax",
    "resume own --operators ops.py:GOD",
)


def _snapshot(folder: Path) -> dict[str, tuple[int, int, str]]:
    """Size, time of the last change and SHA-256 of everything below a folder, by name."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        digest = hashlib.sha256(content).hexdigest()
        found[str(path.relative_to(folder))] = (status.st_size, status.st_mtime_ns, digest)
    return found


def _data(folder: Path) -> None:
    for name in ("cut", "hollow", "zipped"):
        (folder / name).mkdir()
    for number in range(1, 6):
        (folder / "cut" / f"data_batch_{number}.bin").write_bytes(bytes(3_000))
    (folder / "cut/train-images-idx3-ubyte").write_bytes(bytes(100))
    (folder / "hollow/data_batch_1.bin").mkdir()
    (folder / "zipped/data_batch_1.bin.gz").write_bytes(b"\x1f\x8b\x08 and no more")


def _runs(folder: Path, make_run) -> None:
    values = {"trials": 12, "baselines": "relu,swish"}
    make_run(folder / "finished", **values)
    make_run(folder / "other", **values, steps=50)
    make_run(folder / "own", **values, operators="ops.py:GOOD")
    for name in ("torn", "newer", "journalless", "garbled", "hollowed", "schema"):
        shutil.copytree(folder / "finished", folder / name)
    (folder / "torn/config.json").write_text('{"version": 1, "sp')
    newer = to_json(*build({})) | {"version": 2}
    (folder / "newer/config.json").write_text(json.dumps(newer))
    (folder / "journalless/journal.sqlite").unlink()
    (folder / "garbled/journal.sqlite").write_bytes(b"no journal, but as long as one. " * 300)
    (folder / "hollowed/journal.sqlite").write_bytes(b"")
    connection = sqlite3.connect(folder / "schema/journal.sqlite")
    connection.execute("UPDATE meta SET value = '99' WHERE key = 'schema_version'")
    connection.commit()
    connection.close()
    for leftover in (*folder.glob("schema/journal.sqlite-*"),):
        leftover.unlink()


@pytest.fixture(scope="module")
def place(make_run, tmp_path_factory) -> Path:
    """A folder with everything that a request may be wrong about."""
    folder = tmp_path_factory.mktemp("wrong")
    for name, text in OPERATOR_FILES.items():
        (folder / name).write_text(text)
    (folder / "latin.py").write_bytes("# é".encode("latin-1"))
    for name, content in CONFIGS.items():
        raw = content if isinstance(content, bytes) else content.encode()
        (folder / name).write_bytes(raw)
    (folder / "stuff").mkdir()
    (folder / "stuff/thesis.tex").write_text("precious")
    (folder / "file.txt").write_text("a file")
    (folder / "pictures.png").mkdir()
    (folder / "page.html").mkdir()
    _data(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _runs(folder, make_run)
    return folder


def _check(code: int, out: str, err: str, expected: str) -> None:
    assert expected in err
    assert (code, out) == (2, "")
    assert err.startswith("actsearch: ")
    assert err.endswith("\n") and len(err.splitlines()) == 1


def test_the_table_is_complete():
    said = [line for line, _ in ROWS]
    assert len(said) == len(set(said)) >= 150
    assert set(AS_PROCESSES) <= set(said) and len(AS_PROCESSES) >= 10
    first = {line.split()[0] for line in said if line}
    from launch.cli import app

    assert {name for name in app if not name.startswith("-")} <= first


@pytest.mark.parametrize("line, expected", ROWS, ids=lambda text: text[:70])
def test_a_wrong_request_is_one_line_and_touches_nothing(
    line, expected, place, monkeypatch, capsys
):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = _snapshot(place)
    code = run(shlex.split(line))
    shown = capsys.readouterr()
    _check(code, shown.out, shown.err, expected)
    assert _snapshot(place) == before


@pytest.mark.parametrize("line", AS_PROCESSES)
def test_a_wrong_request_is_one_line_of_a_process(line, place):
    before = _snapshot(place)
    done = subprocess.run(
        [sys.executable, "-m", "launch", *shlex.split(line)],
        cwd=place,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    _check(done.returncode, done.stdout, done.stderr, dict(ROWS)[line])
    assert _snapshot(place) == before
