// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{class-weights="0.5,1,2" label-smoothing=0.25})' | FileCheck %s --check-prefix=WEIGHTS
// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{class-weights="0.5,1,2" loss-average=micro-batch})' | FileCheck %s --check-prefix=MICRO
// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{loss=bce_with_logits pos-weight="3,1,1"})' | FileCheck %s --check-prefix=POSITIVE
// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{loss="cross_entropy:a+0.5*cross_entropy:b"})' | FileCheck %s --check-prefix=SHARED
// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{loss="cross_entropy:a + 0.5*mse:b:target"})' 2>&1 | FileCheck %s --check-prefix=MIXED
// RUN: not zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{loss="2*onnx:a+b.onnx"})' 2>&1 | FileCheck %s --check-prefix=PLUS
// RUN: zopt %s --split-input-file --pass-pipeline='builtin.module(zopt-add-loss{loss="2*onnx:a\+b.onnx"})' | FileCheck %s --check-prefix=GRAPH

// A row counts as often as its label's weight says, in the sum and in the count; an ignored one does not, of whatever its label is.
// WEIGHTS: module attributes {train.label_positions = 4 : i64
// WEIGHTS: %[[LABEL:.*]] = train.reshape %{{.*}} : tensor<4xi64> -> tensor<4x1xi64>
// WEIGHTS: %[[NUMBERS:.*]] = train.iota
// WEIGHTS: %[[COUNTED:.*]] = train.compare ne %[[LABEL]], %{{.*}}
// WEIGHTS: %[[EQUAL:.*]] = train.compare eq %[[NUMBERS]], %[[LABEL]]
// WEIGHTS: %[[IS_LABEL:.*]] = train.and %[[EQUAL]], %[[COUNTED]]
// WEIGHTS: %[[W:.*]] = train.constant dense<[5.000000e-01, 1.000000e+00, 2.000000e+00]>
// WEIGHTS: %[[LOG_P:.*]] = train.log_softmax
// WEIGHTS: %[[NEGATED:.*]] = train.neg %[[LOG_P]]
// WEIGHTS: %[[EACH:.*]] = train.mul %[[NEGATED]], %[[W]]
// WEIGHTS: %[[OF_LABELS:.*]] = train.select %[[IS_LABEL]], %[[EACH]], %{{.*}}
// WEIGHTS: train.reduce_sum %[[OF_LABELS]] [0, 1]
// WEIGHTS: %[[OF_ALL:.*]] = train.select %[[COUNTED]], %[[EACH]], %{{.*}}
// WEIGHTS: train.reduce_sum %[[OF_ALL]] [0, 1]
// WEIGHTS: %[[SUM:.*]] = train.add
// WEIGHTS: %[[OWN:.*]] = train.select %[[IS_LABEL]], %[[W]], %{{.*}}
// WEIGHTS: %[[COUNT:.*]] = train.reduce_sum %[[OWN]] [0, 1]
// WEIGHTS: train.accumulate @zopt.loss_sum, %[[SUM]]
// WEIGHTS: train.accumulate @zopt.count, %[[COUNT]]

// A sum of weights may be below 1, and is divided by as it is.
// MICRO: train.reduce_sum %{{.*}} [0, 1]
// MICRO: %[[COUNT:.*]] = train.reduce_sum %{{.*}} [0, 1]
// MICRO: %[[ANY:.*]] = train.compare gt %[[COUNT]], %{{.*}}
// MICRO: train.select %[[ANY]], %[[COUNT]], %{{.*}}

// POSITIVE: %[[BEYOND:.*]] = train.constant dense<[2.000000e+00, 0.000000e+00, 0.000000e+00]>
// POSITIVE: %[[NEGATED:.*]] = train.neg
// POSITIVE: train.softplus %[[NEGATED]]
// POSITIVE: train.mul %{{.*}}, %[[BEYOND]]

// Two terms over the same labels: one label, one count, and a sum over the global batch.
// SHARED: module attributes {train.label_positions = 4 : i64, {{.*}}train.loss_average = "global"
// SHARED: func.func @micro_step(%{{.*}} {train.name = "x"}, %[[LABELS:[a-z0-9]*]]: tensor<4xi64> {{{.*}}train.name = "labels"}) {
// SHARED: %[[A:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy %{{.*}}, %[[LABELS]]
// SHARED: %[[B:.*]], %{{.*}}, %{{.*}} = train.cross_entropy %{{.*}}, %[[LABELS]]
// SHARED: %[[HALF:.*]] = train.constant dense<5.000000e-01>
// SHARED: %[[PART:.*]] = train.mul %[[B]], %[[HALF]]
// SHARED: %[[SUM:.*]] = train.add %[[A]], %[[PART]]
// SHARED: train.accumulate @zopt.loss_sum, %[[SUM]]
// SHARED: train.accumulate @zopt.count, %[[COUNT]]
// The terms stand beside it, without their weights.
// SHARED: train.accumulate @"zopt.loss_sum.cross_entropy:a", %[[A]]
// SHARED: train.accumulate @"zopt.loss_sum.cross_entropy:b", %[[B]]

// Otherwise means of this micro-batch.
// MIXED: remark: terms of the loss count different labels: each is averaged over its own micro-batch
// MIXED-NOT: train.label_positions
// MIXED: train.loss_average = "micro-batch"
// MIXED: %[[A:.*]], %[[COUNT:.*]], %{{.*}} = train.cross_entropy
// MIXED: %[[SQUARES:.*]] = train.reduce_sum
// MIXED: %[[WHOLE:.*]] = train.cast %[[COUNT]] {train.loss} : tensor<f32> -> tensor<i64>
// MIXED: %[[NUMBER:.*]] = train.cast %[[WHOLE]] {train.loss} : tensor<i64> -> tensor<f32>
// MIXED: %[[OWN:.*]] = train.max %[[NUMBER]], %{{.*}}
// MIXED: %[[FIRST:.*]] = train.div %[[A]], %[[OWN]]
// MIXED: %[[N:.*]] = train.constant dense<1.200000e+01>
// MIXED: %[[SECOND:.*]] = train.div %[[SQUARES]], %[[N]]
// MIXED: %[[ONE:.*]] = train.constant dense<1.000000e+00>
// MIXED: train.accumulate @zopt.count, %[[ONE]]
// MIXED: %[[MEAN:.*]] = train.div %[[FIRST]], %{{.*}}
// MIXED: train.accumulate @"zopt.loss_sum.cross_entropy:a", %[[MEAN]]
// MIXED: %[[MEAN2:.*]] = train.div %[[SECOND]], %{{.*}}
// MIXED: train.accumulate @"zopt.loss_sum.mse:b:target", %[[MEAN2]]

// PLUS: error: loss is '2*onnx:a+b.onnx', expected cross_entropy, {{.*}}
// The graph of a loss stands in @micro_step, on the model's outputs and inputs, and labels that neither has.
// GRAPH: func.func @micro_step(%[[X:[a-z0-9]*]]: tensor<4x3xf32> {train.name = "x"}, %[[Y:[a-z0-9]*]]: tensor<4x3xf32> {train.label, train.name = "y"}) {
// GRAPH: %[[A:.*]] = train.mul %[[X]], %{{.*}} : tensor<4x3xf32>, tensor<3xf32>
// GRAPH: %[[D:.*]] = train.sub %[[A]], %[[Y]] {train.loss}
// GRAPH: %[[E:.*]] = train.mul %[[D]], %[[X]] {train.loss}
// GRAPH: %[[MEAN:.*]] = train.reduce_mean %[[E]] [0, 1] {keepdims, train.loss}
// GRAPH: %[[SCALAR:.*]] = train.reshape %[[MEAN]] {train.loss}
// GRAPH: %[[LOSS:.*]] = train.mul %[[SCALAR]]
// GRAPH: train.backward %[[LOSS]]
// GRAPH-NOT: @loss
module attributes {train.level = "forward"} {
  train.state @w : tensor<3xf32> {role = #train.role<parameter>, trained}
  func.func @forward(%x: tensor<4x3xf32> {train.name = "x"}) -> (tensor<4x3xf32> {train.name = "a"}, tensor<4x3xf32> {train.name = "b"}) {
    %w = train.read_state @w : tensor<3xf32>
    %a = train.mul %x, %w : tensor<4x3xf32>, tensor<3xf32> -> tensor<4x3xf32>
    %b = train.add %x, %w : tensor<4x3xf32>, tensor<3xf32> -> tensor<4x3xf32>
    return %a, %b : tensor<4x3xf32>, tensor<4x3xf32>
  }
  func.func @loss(%x: tensor<4x3xf32> {train.name = "x"}, %y: tensor<4x3xf32> {train.name = "y"}, %a: tensor<4x3xf32> {train.name = "a"}) -> (tensor<1x1xf32> {train.name = "l"}) {
    %d = train.sub %a, %y : tensor<4x3xf32>, tensor<4x3xf32> -> tensor<4x3xf32>
    %e = train.mul %d, %x : tensor<4x3xf32>, tensor<4x3xf32> -> tensor<4x3xf32>
    %m = train.reduce_mean %e [0, 1] {keepdims} : tensor<4x3xf32> -> tensor<1x1xf32>
    return %m : tensor<1x1xf32>
  }
}
