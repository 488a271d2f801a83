// RUN: zopt %s --zopt-add-optimizer=clip=1.0 | FileCheck %s
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=sgd momentum=0.9 lr=0.05 weight-decay=0})' | FileCheck %s --check-prefix=SGD
// RUN: zopt %s --zopt-add-optimizer=optimizer=sgd | FileCheck %s --check-prefix=PLAIN
// RUN: zopt %s --zopt-add-optimizer=optimizer=adam | FileCheck %s --check-prefix=ADAM
// RUN: zopt %s --zopt-add-optimizer=optimizer=none | FileCheck %s --check-prefix=NONE
// RUN: zopt %s --zopt-add-optimizer=decay=matrices | FileCheck %s --check-prefix=MATRICES
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{no-decay="wei.*t"})' | FileCheck %s --check-prefix=EXEMPT
// RUN: zopt %s --zopt-add-optimizer=optimizer=adagrad | FileCheck %s --check-prefix=ADAGRAD
// RUN: zopt %s --zopt-add-optimizer=optimizer=lion | FileCheck %s --check-prefix=LION
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=sgd momentum=0.9 nesterov=1})' | FileCheck %s --check-prefix=NESTEROV
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=sgd ema=0.75 schedule="linear,total_steps=8"})' | FileCheck %s --check-prefix=AVERAGE
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{lr=0.5 param-groups="^b.*s$:lr=1.5;[a-z:]:weight-decay=0.25,lr=1"})' | FileCheck %s --check-prefix=GROUPS
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{param-groups="(:lr=1;x;weight:rate=1,lr=-2"})' 2>&1 | FileCheck %s --check-prefix=BADGROUPS
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{param-groups="wight:lr=1"})' 2>&1 | FileCheck %s --check-prefix=NOGROUP
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{lr=0 param-groups="weight:lr=1"})' 2>&1 | FileCheck %s --check-prefix=NORATE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=sgd nesterov=1})' 2>&1 | FileCheck %s --check-prefix=NOMOMENTUM
// RUN: zopt %s --zopt-add-optimizer=optimizer=lamb | FileCheck %s --check-prefix=LAMB
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=lamb ema=0.9})' | FileCheck %s --check-prefix=LAMBAVERAGE
// RUN: not zopt %s --zopt-add-optimizer=ema=1 2>&1 | FileCheck %s --check-prefix=NOAVERAGE
// RUN: not zopt %s --zopt-add-optimizer=optimizer=shampoo 2>&1 | FileCheck %s --check-prefix=UNKNOWN
// RUN: zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=muon momentum=0.9 lr=0.5 adam-lr=0.25 ema=0.75})' | FileCheck %s --check-prefix=MUON
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=muon muon-exclude=WEIGHT})' 2>&1 | FileCheck %s --check-prefix=NOMATRIX
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{adam-lr=1})' 2>&1 | FileCheck %s --check-prefix=ADAMRATE
// RUN: zopt %s --zopt-add-optimizer=cycle-momentum=1 | FileCheck %s --check-prefix=CYCLE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=adagrad cycle-momentum=1})' 2>&1 | FileCheck %s --check-prefix=NOBETAS
// RUN: not zopt %s --zopt-add-optimizer=no-decay=norm 2>&1 | FileCheck %s --check-prefix=NOTHING
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{betas="0.9,1.0"})' 2>&1 | FileCheck %s --check-prefix=BETA
// RUN: not zopt %s --zopt-add-optimizer=momentum=0.9 2>&1 | FileCheck %s --check-prefix=SETTING
// RUN: not zopt %s --zopt-add-optimizer=clip=-1 2>&1 | FileCheck %s --check-prefix=CLIP
// RUN: not zopt %S/record-settings.mlir --zopt-add-optimizer 2>&1 | FileCheck %s --check-prefix=NOSTEP
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{betas="0.9"})' 2>&1 | FileCheck %s --check-prefix=BETAS
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=muon momentum=1})' 2>&1 | FileCheck %s --check-prefix=MUONMOMENTUM
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=muon momentum=0.9 nesterov=1})' 2>&1 | FileCheck %s --check-prefix=MUONNESTEROV
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-optimizer{optimizer=muon lr=0 adam-lr=1})' 2>&1 | FileCheck %s --check-prefix=MUONRATE
// RUN: not zopt %s --zopt-add-optimizer=decay=some 2>&1 | FileCheck %s --check-prefix=SOMEDECAY

// CHECK: train.learning_rate = 1.000000e-03 : f64, train.level = "step"
// CHECK-SAME: train.mode = "train"
// CHECK: train.state @zopt.lr : tensor<f32> {init = 1.000000e-03 : f32
// CHECK: train.state @zopt.lr_if_skipped : tensor<f32> {init = 1.000000e-03 : f32
// CHECK: train.state @zopt.clip : tensor<f32> {init = 1.000000e+00 : f32
// CHECK: train.state @zopt.gradient_scale : tensor<f32> {init = 1.000000e+00 : f32

// AdamW: decay first, on the parameter alone; the corrections in double, from the step alone.
// CHECK: train.optimizer @adamw slots ["exp_avg", "exp_avg_sq"] {
// CHECK-NEXT: ^bb0(%[[P:.*]]: f32, %[[G:.*]]: f32, %[[M:.*]]: f32, %[[V:.*]]: f32, %[[LR:.*]]: f32, %[[STEP:.*]]: f32, %[[DECAY:.*]]: f32):
// CHECK: %[[SHRINK:.*]] = arith.mulf %[[LR]], %[[DECAY]]
// CHECK: %[[LOST:.*]] = arith.mulf %[[SHRINK]], %[[P]]
// CHECK: %[[P0:.*]] = arith.subf %[[P]], %[[LOST]]
// CHECK: %[[STEP64:.*]] = arith.extf %[[STEP]] : f32 to f64
// CHECK: %[[LR64:.*]] = arith.extf %[[LR]] : f32 to f64
// CHECK: arith.constant -0.10536051565782628 : f64
// CHECK: arith.constant -0.0010005003335835344 : f64
// CHECK: %[[EXP1:.*]] = math.exp %{{.*}} : f64
// CHECK: %[[BIAS1:.*]] = arith.subf %{{.*}}, %[[EXP1]] : f64
// CHECK: %[[EXP2:.*]] = math.exp %{{.*}} : f64
// CHECK: %[[BIAS2:.*]] = arith.subf %{{.*}}, %[[EXP2]] : f64
// CHECK: %[[ROOT2:.*]] = math.sqrt %[[BIAS2]] : f64
// CHECK: %[[RATE64:.*]] = arith.divf %[[LR64]], %[[BIAS1]] : f64
// CHECK: %[[RATE:.*]] = arith.truncf %[[RATE64]] : f64 to f32
// CHECK: %[[BIAS:.*]] = arith.truncf %[[ROOT2]] : f64 to f32
// CHECK: arith.constant 1.000000e-01 : f32
// CHECK: arith.constant 1.000000e-03 : f32
// CHECK: arith.constant 9.990000e-01 : f32
// CHECK: %[[TOWARDS:.*]] = arith.subf %[[G]], %[[M]]
// CHECK: %[[M1:.*]] = arith.addf %[[M]], %{{.*}}
// CHECK: %[[V1:.*]] = arith.addf %{{.*}}, %{{.*}}
// CHECK: %[[ROOT:.*]] = math.sqrt %[[V1]] : f32
// CHECK: %[[CORRECTED:.*]] = arith.divf %[[ROOT]], %[[BIAS]]
// CHECK: %[[DENOMINATOR:.*]] = arith.addf %[[CORRECTED]]
// CHECK: %[[STEP_M:.*]] = arith.mulf %[[RATE]], %[[M1]]
// CHECK: %[[CHANGE:.*]] = arith.divf %[[STEP_M]], %[[DENOMINATOR]]
// CHECK: %[[P1:.*]] = arith.subf %[[P0]], %[[CHANGE]]
// CHECK: train.yield %[[P1]], %[[M1]], %[[V1]]
// CHECK: train.state @weight.exp_avg : tensor<4x2xf32> {init = 0.000000e+00 : f32, role = #train.role<optimizer>}
// CHECK: train.state @weight.exp_avg_sq : tensor<4x2xf32>
// CHECK: train.state @bias.exp_avg : tensor<2xf32>
// CHECK: train.state @bias.exp_avg_sq : tensor<2xf32>
// CHECK-NOT: frozen.exp_avg

// CHECK: func.func @apply_step() {
// CHECK-DAG: %[[SUM:.*]] = train.read_state @zopt.loss_sum
// CHECK-DAG: %[[COUNT:.*]] = train.read_state @zopt.count
// CHECK-DAG: %[[NORM0:.*]] = train.gradient_norm
// CHECK-DAG: %[[WORLD:.*]] = zero.world_size
// CHECK-DAG: %[[STEPS:.*]] = zero.accum_steps
// CHECK-DAG: %[[APPLIED_BEFORE:.*]] = train.compare ne %{{.*}}, %{{.*}}
// CHECK-DAG: %[[LR:.*]] = train.select %[[APPLIED_BEFORE]], %{{.*}}, %{{.*}} : tensor<i1>, tensor<f32>, tensor<f32>
// CHECK: %[[MICRO:.*]] = train.mul %[[WORLD]], %[[STEPS]]
// CHECK: %[[IS_COUNTED:.*]] = train.compare gt %[[COUNT]]
// CHECK: %[[COUNTED:.*]] = train.select %[[IS_COUNTED]], %[[COUNT]], %{{.*}}
// CHECK: %[[LOSS:.*]] = train.div %[[SUM]], %[[COUNTED]]
// CHECK: %[[N:.*]] = train.constant dense<4.000000e+00>
// CHECK: %[[POSITIONS:.*]] = train.mul %[[N]], %[[MICRO]]
// CHECK: %[[RATIO:.*]] = train.div %[[POSITIONS]], %[[COUNTED]]
// CHECK: %[[NORM:.*]] = train.mul %[[NORM0]], %[[RATIO]]
// CHECK: %[[ZERO:.*]] = train.sub %[[NORM]], %[[NORM]]
// CHECK: %[[IS_FINITE:.*]] = train.compare eq %[[ZERO]]
// CHECK: %[[BOTH:.*]] = train.and %[[IS_FINITE]], %[[IS_COUNTED]]
// CHECK: %[[FINITE:.*]] = train.cast %[[BOTH]] : tensor<i1> -> tensor<f32>
// CHECK: train.write_state @zopt.loss, %[[LOSS]]
// CHECK: train.write_state @zopt.norm, %[[NORM]]
// CHECK: train.write_state @zopt.finite, %[[FINITE]]
// CHECK: train.write_state @zopt.gradient_scale, %[[RATIO]]
// CHECK: %[[MARGIN:.*]] = train.add %[[NORM]], %{{.*}}
// CHECK: %[[LIMIT:.*]] = train.div %{{.*}}, %[[MARGIN]]
// CHECK: %[[CLIPPED:.*]] = train.min %[[LIMIT]], %{{.*}}
// CHECK: %[[LIMITED:.*]] = train.compare gt %{{.*}}, %{{.*}}
// CHECK: %[[FACTOR:.*]] = train.select %[[LIMITED]], %[[CLIPPED]], %{{.*}}
// CHECK: %[[SCALE:.*]] = train.mul %[[RATIO]], %[[FACTOR]]
// CHECK: train.update @weight using @adamw scale %[[SCALE]] lr %[[LR]] step %{{.*}} finite %[[FINITE]] decay 1.000000e-02
// CHECK: train.update @bias using @adamw scale %[[SCALE]]
// CHECK-NOT: train.update

// SGD: train.optimizer @sgd slots ["momentum"] {
// SGD-NEXT: ^bb0(%[[P:.*]]: f32, %[[G:.*]]: f32, %[[M:.*]]: f32, %[[LR:.*]]: f32, %{{.*}}: f32, %[[DECAY:.*]]: f32):
// SGD-NEXT: %[[MOMENTUM:.*]] = arith.constant 0.899999976 : f32
// SGD-NEXT: %[[PENALTY:.*]] = arith.mulf %[[DECAY]], %[[P]]
// SGD-NEXT: %[[G1:.*]] = arith.addf %[[G]], %[[PENALTY]]
// SGD-NEXT: %[[M0:.*]] = arith.mulf %[[MOMENTUM]], %[[M]]
// SGD-NEXT: %[[M1:.*]] = arith.addf %[[M0]], %[[G1]]
// SGD-NEXT: %[[CHANGE:.*]] = arith.mulf %[[LR]], %[[M1]]
// SGD-NEXT: %[[P1:.*]] = arith.subf %[[P]], %[[CHANGE]]
// SGD-NEXT: train.yield %[[P1]], %[[M1]]
// SGD: train.state @weight.momentum
// SGD: train.update @weight using @sgd {{.*}} decay 0.000000e+00

// PLAIN: train.optimizer @sgd slots [] {
// PLAIN-NOT: role = #train.role<optimizer>

// ADAM: train.optimizer @adam slots ["exp_avg", "exp_avg_sq"] {
// ADAM-NEXT: ^bb0(%[[P:.*]]: f32, %[[G:.*]]: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %[[DECAY:.*]]: f32):
// ADAM: %[[PENALTY:.*]] = arith.mulf %[[DECAY]], %[[P]]
// ADAM: arith.addf %[[G]], %[[PENALTY]]

// ADAGRAD: train.optimizer @adagrad slots ["sum"] {
// ADAGRAD: ^bb0(%[[P:.*]]: f32, %[[GRADIENT:.*]]: f32, %[[SUM:.*]]: f32, %[[LR:.*]]: f32, %{{.*}}: f32, %[[DECAY:.*]]: f32):
// ADAGRAD: %[[PENALTY:.*]] = arith.mulf %[[DECAY]], %[[P]]
// ADAGRAD: %[[G:.*]] = arith.addf %[[GRADIENT]], %[[PENALTY]]
// ADAGRAD: %[[SQUARE:.*]] = arith.mulf %[[G]], %[[G]]
// ADAGRAD: %[[SUM1:.*]] = arith.addf %[[SUM]], %[[SQUARE]]
// ADAGRAD: %[[ROOT:.*]] = math.sqrt %[[SUM1]]
// ADAGRAD: train.yield %{{.*}}, %[[SUM1]]

// LION: train.optimizer @lion slots ["exp_avg"] {
// LION: ^bb0(%[[P:.*]]: f32, %[[G:.*]]: f32, %[[M:.*]]: f32, %[[LR:.*]]: f32, %{{.*}}: f32, %{{.*}}: f32):
// LION: %[[C:.*]] = arith.addf
// LION: %[[UP:.*]] = arith.cmpf ogt, %[[C]]
// LION: %[[DOWN:.*]] = arith.cmpf olt, %[[C]]
// LION: %[[STEP:.*]] = arith.select %[[UP]], %[[LR]]
// LION: %[[P1:.*]] = arith.subf %{{.*}}, %[[STEP]]
// LION: train.yield %[[P1]], %{{.*}}

// The direction and the step size; the trust ratio comes between them.
// LAMB: train.optimizer @lamb slots ["exp_avg", "exp_avg_sq"] {
// LAMB: ^bb0(%[[P:.*]]: f32, %[[G:.*]]: f32, %[[M:.*]]: f32, %[[V:.*]]: f32, %[[SIZE:.*]]: f32, %{{.*}}: f32, %[[DECAY:.*]]: f32):
// LAMB: %[[CORRECTION:.*]] = arith.truncf
// LAMB: %[[ROOT2:.*]] = arith.truncf
// LAMB: %[[M1:.*]] = arith.addf %[[M]], %{{.*}}
// LAMB: %[[V1:.*]] = arith.addf
// LAMB: %[[ROOT:.*]] = math.sqrt %[[V1]]
// LAMB: %[[CORRECTED:.*]] = arith.divf %[[ROOT]], %[[ROOT2]]
// LAMB: %[[DENOMINATOR:.*]] = arith.addf %[[CORRECTED]], %{{.*}}
// LAMB: %[[MEAN:.*]] = arith.mulf %[[M1]], %[[CORRECTION]]
// LAMB: %[[AHEAD:.*]] = arith.divf %[[MEAN]], %[[DENOMINATOR]]
// LAMB: %[[PULL:.*]] = arith.mulf %[[DECAY]], %[[P]]
// LAMB: %[[DIRECTION:.*]] = arith.addf %[[AHEAD]], %[[PULL]]
// LAMB: train.yield %[[DIRECTION]], %[[SIZE]], %[[M1]], %[[V1]]
// LAMB: {trust_ratio = array<f64: 1.000000e-02, 1.000000e+01>}

// NESTEROV: %[[G:.*]] = arith.addf
// NESTEROV: %[[M1:.*]] = arith.addf %{{.*}}, %[[G]]
// NESTEROV: %[[AHEAD:.*]] = arith.mulf %{{.*}}, %[[M1]]
// NESTEROV: %[[DIRECTION:.*]] = arith.addf %[[G]], %[[AHEAD]]
// NESTEROV: train.yield %{{.*}}, %[[M1]]

// The average's slot is the last; it begins as the parameter.
// AVERAGE: train.schedule = "linear,total_steps=8"
// AVERAGE: train.optimizer @sgd slots ["ema"] {
// AVERAGE: %[[P1:.*]] = arith.subf
// AVERAGE: %[[TAKEN:.*]] = arith.mulf %{{.*}}, %[[P1]]
// AVERAGE: %[[EMA:.*]] = arith.addf %{{.*}}, %[[TAKEN]]
// AVERAGE: train.yield %[[P1]], %[[EMA]]
// AVERAGE: train.state @weight.ema : tensor<4x2xf32>

// The first group that matches counts; a rate is a multiple of the one that all have.
// GROUPS: train.state @weight : tensor<4x2xf32> {no_decay
// GROUPS-NOT: @bias : {{.*}}no_decay
// GROUPS: train.update @weight {{.*}} decay 2.500000e-01 {rate = 2.000000e+00 : f64}
// GROUPS: train.update @bias {{.*}} decay 1.000000e-02 {rate = 3.000000e+00 : f64}

// The average is the kernel's, which alone knows the new parameter.
// LAMBAVERAGE: train.optimizer @lamb slots ["exp_avg", "exp_avg_sq", "ema"] {
// LAMBAVERAGE: train.yield %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}} : f32, f32, f32, f32
// LAMBAVERAGE-NEXT: } {average = 9.000000e-01 : f64, trust_ratio

// Matrices by Muon, the rest by AdamW at a rate of its own.
// MUON: train.optimizer @muon slots ["momentum", "ema"] {
// MUON-NEXT: ^bb0(%{{.*}}: f32, %[[G:.*]]: f32, %[[M:.*]]: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32, %{{.*}}: f32):
// MUON: %[[TOWARDS:.*]] = arith.subf %[[G]], %[[M]]
// MUON: %[[M1:.*]] = arith.addf %[[M]]
// MUON: %[[AHEAD:.*]] = arith.subf %[[M1]], %[[G]]
// MUON: %[[D:.*]] = arith.addf %[[G]]
// MUON: train.yield %[[D]], %[[M1]] : f32, f32
// MUON-NEXT: } {average = 7.500000e-01 : f64, newton_schulz = 5 : i64}
// MUON: train.optimizer @adamw slots ["exp_avg", "exp_avg_sq", "ema"] {
// MUON: train.state @weight.momentum : tensor<4x2xf32>
// MUON: train.state @weight.ema : tensor<4x2xf32>
// MUON-NOT: train.state @weight.exp_avg
// MUON: train.state @bias.exp_avg : tensor<2xf32>
// MUON: train.update @weight using @muon {{.*}} decay 1.000000e-02 :
// MUON: train.update @bias using @adamw {{.*}} decay 1.000000e-02 {rate = 5.000000e-01 : f64}

// The first beta is the runtime's.
// CYCLE: train.optimizer @adamw slots ["exp_avg", "exp_avg_sq"] {
// CYCLE-NEXT: ^bb0({{.*}}, %[[FIRST:[^ ]*]]: f32):
// CYCLE: %[[WIDE:.*]] = arith.extf %[[FIRST]] : f32 to f64
// CYCLE: math.log %[[WIDE]] : f64
// CYCLE: arith.subf %{{.*}}, %[[FIRST]] : f32
// CYCLE: } {cycles_momentum}
// CYCLE: train.state @zopt.momentum : tensor<f32> {init = 0.899999976 : f32
// CYCLE: train.state @zopt.momentum_if_skipped
// CYCLE: %[[USUAL:.*]] = train.read_state @zopt.momentum :
// CYCLE: %[[SKIPPED:.*]] = train.read_state @zopt.momentum_if_skipped
// CYCLE: %[[MOMENTUM:.*]] = train.select %{{.*}}, %[[USUAL]], %[[SKIPPED]]
// CYCLE: train.update @weight using @adamw {{.*}} momentum %[[MOMENTUM]] : tensor<f32> decay

// NONE: train.mode = "gradient"
// NONE-NOT: train.optimizer
// NONE: train.write_state @zopt.gradient_scale
// NONE-NOT: train.update

// MATRICES: train.update @weight {{.*}} decay 1.000000e-02
// MATRICES: train.update @bias {{.*}} decay 0.000000e+00

// EXEMPT: train.state @weight : tensor<4x2xf32> {no_decay
// EXEMPT: train.update @weight {{.*}} decay 0.000000e+00
// EXEMPT: train.update @bias {{.*}} decay 1.000000e-02

// BADGROUPS-DAG: error: parameter group '(:lr=1' has no regular expression: parentheses not balanced
// BADGROUPS-DAG: error: parameter group 'x' is no REGEX:lr=X,weight-decay=Y
// BADGROUPS-DAG: error: parameter group 'weight:rate=1,lr=-2' sets 'rate', expected lr or weight-decay
// BADGROUPS-DAG: error: parameter group 'weight:rate=1,lr=-2' sets lr to '-2', which is not a number of at least 0
// NOGROUP: error: parameter group 'wight' matches no trained parameter
// NORATE: error: parameter group 'weight' has learning rate 1.000000e+00, but the rate that it is a multiple of is 0
// NOMOMENTUM: error: nesterov needs a momentum, but it is 0
// NOAVERAGE: error: the decay of the moving average is 1.000000e+00, expected at least 0 and below 1
// UNKNOWN: error: optimizer is 'shampoo', expected adamw, adam, sgd, adagrad, lion, lamb or muon, or none
// NOMATRIX: error: muon has no matrix to update: each of the 2 trained parameters is a vector or of neither 2 nor 4 axes, read by no product, a table of embeddings, or named as muon-exclude 'WEIGHT' says
// ADAMRATE: error: adam-lr 1.000000e+00 is a setting of muon, but the optimizer is adamw
// NOSTEP: error: module has no @micro_step with a loss (state 'zopt.loss_sum')
// BETAS: error: betas are '0.9', expected two numbers
// MUONMOMENTUM: error: momentum 1.000000e+00 is not below 1, as muon's must be
// MUONNESTEROV: error: nesterov is a setting of sgd: muon's momentum is Nesterov's already
// MUONRATE: error: adam-lr 1.000000e+00 is not a number of at least 0 beside a learning rate that is not 0
// SOMEDECAY: error: decay is 'some', expected all or matrices
// NOBETAS: error: the momentum cycles, but adagrad has no betas
// NOTHING: error: no-decay 'norm' matches no trained parameter
// BETA: error: beta 1.000000e+00 is not between 0 and 1
// SETTING: error: momentum 9.000000e-01 is a setting of sgd and muon, but the optimizer is adamw
// CLIP: error: clip -1.000000e+00 is not a number of at least 0
module attributes {train.level = "forward", train.label_positions = 4 : i64, train.loss_average = "global"} {
  train.state @weight : tensor<4x2xf32> {role = #train.role<parameter>, trained}
  train.state @frozen : tensor<4x2xf32> {role = #train.role<parameter>}
  train.state @bias : tensor<2xf32> {role = #train.role<parameter>, trained}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  train.state @zopt.count : tensor<f32> {role = #train.role<scalar>, init = 0.0 : f32}
  func.func @micro_step() {
    %w = train.read_state @weight : tensor<4x2xf32>
    %product = train.matmul %w, %w {transpose_rhs} : tensor<4x2xf32>, tensor<4x2xf32> -> tensor<4x4xf32>
    return
  }
}
