// RUN: not zopt %s --zopt-add-loss=loss=hinge 2>&1 | FileCheck %s --check-prefix=LOSS
// RUN: not zopt %s --zopt-add-loss=logits=probabilities 2>&1 | FileCheck %s --check-prefix=LOGITS
// RUN: not zopt %s --zopt-add-loss=logits=ids 2>&1 | FileCheck %s --check-prefix=INTEGERS
// RUN: not zopt %s --zopt-add-loss=loss=output 2>&1 | FileCheck %s --check-prefix=OUTPUT
// RUN: not zopt %s --zopt-add-loss=loss-average=rank 2>&1 | FileCheck %s --check-prefix=AVERAGE
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss="2*mse:logits:target+hinge"})' 2>&1 | FileCheck %s --check-prefix=TERM
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss="cross_entropy+mse"})' 2>&1 | FileCheck %s --check-prefix=SHARED
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss="mse:logits:x"})' 2>&1 | FileCheck %s --check-prefix=INPUT
// RUN: not zopt %s --zopt-add-loss=loss=onnx:loss.onnx 2>&1 | FileCheck %s --check-prefix=GRAPH
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{class-weights="1,2"})' 2>&1 | FileCheck %s --check-prefix=CLASSES
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{class-weights="1,nan,2"})' 2>&1 | FileCheck %s --check-prefix=NUMBERS
// RUN: not zopt %s --pass-pipeline='builtin.module(zopt-add-loss{loss=bce_with_logits class-weights="1,1,2"})' 2>&1 | FileCheck %s --check-prefix=OTHER
// RUN: not zopt %s --zopt-add-loss=class-axis=2 2>&1 | FileCheck %s --check-prefix=AXIS

// LOSS: error: loss is 'hinge', expected cross_entropy, mse, bce_with_logits, l1, output, output:NAME or onnx:FILE, or a sum of such terms
// TERM: error: loss is '2*mse:logits:target+hinge', expected cross_entropy
// SHARED: error: two terms of the loss read the label 'labels', as 'tensor<2xi64>' and as 'tensor<2x3xf32>'; KIND:{{.*}} names another
// INPUT: error: the graph has an input named 'x' already; name the label tensor otherwise
// GRAPH: error: the loss is the graph 'loss.onnx', but the module has no @loss of one result: a loss is imported together with its model
// CLASSES: error: there are 2 class weights, but output 'logits' has 3 classes
// NUMBERS: error: class weights are '1,nan,2', but 'nan' is no finite number of at least 0
// OTHER: error: class weights are of cross_entropy, but the loss is 'bce_with_logits'
// LOGITS: error: no output is named 'probabilities'; outputs are 'ids', 'logits'
// INTEGERS: error: output 'ids' feeds the loss but holds 'i64'
// OUTPUT: error: output 'logits' is the loss but has 6 elements, expected 1
// AVERAGE: error: loss average is 'rank', expected global or micro-batch
// AXIS: error: class axis 2 is out of range for output 'logits' of rank 2
func.func @forward(%i: tensor<2xi64> {train.name = "i"}, %x: tensor<2x3xf32> {train.name = "x"}) -> (tensor<2xi64> {train.name = "ids"}, tensor<2x3xf32> {train.name = "logits"}) {
  return %i, %x : tensor<2xi64>, tensor<2x3xf32>
}
