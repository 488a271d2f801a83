// RUN: zopt %s --zopt-mixed-precision=compute=bf16 --split-input-file | FileCheck %s
// RUN: zopt %s --zopt-mixed-precision=compute=f64 --split-input-file | FileCheck %s --check-prefix=F64
// RUN: zopt %s --zopt-mixed-precision=compute=f32 --split-input-file | FileCheck %s --check-prefix=F32
// RUN: not zopt %s --zopt-mixed-precision=compute=f8 --split-input-file 2>&1 | FileCheck %s --check-prefix=TYPE

// TYPE: error: compute type is 'f8', expected f32, bf16, f16 or f64

// Parameters and inputs in bf16, statistics and what depends on integers alone in fp32, cast where it meets an activation; the mask stays finite.
// CHECK-LABEL: module @activations
// CHECK: train.state @w : tensor<4x4xf32>
// CHECK: func.func @micro_step(%[[X:[a-z0-9]*]]: tensor<2x4xf32> {train.name = "x"}, %{{.*}}: tensor<2x4xi64> {train.name = "i"}, %[[T:[a-z0-9]*]]: tensor<2x4xf32> {train.label, train.name = "labels"})
// CHECK: %[[X16:.*]] = train.cast %[[X]] : tensor<2x4xf32> -> tensor<2x4xbf16>
// CHECK: %[[W:.*]] = train.read_state @w : tensor<4x4xbf16>
// CHECK: %[[TABLE:.*]] = train.read_state @table : tensor<4xf32>
// CHECK: %[[LOWEST:.*]] = train.constant dense<-3.38953139E+38> : tensor<f32>
// CHECK: %[[MASK:.*]] = train.select %{{.*}}, %{{.*}}, %[[LOWEST]] : tensor<2x4xi1>, tensor<f32>, tensor<f32> -> tensor<2x4xf32>
// CHECK: %[[SHIFTED:.*]] = train.add %[[MASK]], %[[TABLE]] : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
// CHECK: %[[SHIFTED16:.*]] = train.cast %[[SHIFTED]] : tensor<2x4xf32> -> tensor<2x4xbf16>
// CHECK: %[[Y:.*]] = train.matmul %[[X16]], %[[W]] : tensor<2x4xbf16>, tensor<4x4xbf16> -> tensor<2x4xbf16>
// CHECK: %[[Z:.*]] = train.add %[[Y]], %[[SHIFTED16]] : tensor<2x4xbf16>
// CHECK: %[[N:.*]], %{{.*}}, %{{.*}} = train.layer_norm %[[Z]] {epsilon = {{.*}} : f64} : tensor<2x4xbf16> -> tensor<2x4xbf16>, tensor<2xf32>
// CHECK: %[[N32:.*]] = train.cast %[[N]] : tensor<2x4xbf16> -> tensor<2x4xf32>
// CHECK: train.sub %[[N32]], %[[T]] : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
// CHECK-NOT: train.loss
// CHECK: train.backward %{{.*}} : tensor<f32>

// Inputs are cast where they enter; states, scalars and constants are f64.
// F64-LABEL: module @activations
// F64: train.state @w : tensor<4x4xf64>
// F64: train.state @table : tensor<4xf64>
// F64: train.state @zopt.loss_sum : tensor<f64>
// F64: func.func @micro_step(%[[X:[a-z0-9]*]]: tensor<2x4xf32>
// F64: train.cast %[[X]] : tensor<2x4xf32> -> tensor<2x4xf64>
// F64: train.constant dense<-3.40282346{{.*}}> : tensor<f64>
// F64-NOT: -> tensor<2x4xf32>
// F64: train.layer_norm %{{.*}} : tensor<2x4xf64> -> tensor<2x4xf64>, tensor<2xf64>
// F64: train.backward %{{.*}} : tensor<f64>

// F32-LABEL: module @activations
// F32-NOT: train.loss}
// F32-NOT: train.cast
// F32-LABEL: module @transformer
module @activations {
  train.state @w : tensor<4x4xf32> {role = #train.role<parameter>, trained}
  train.state @table : tensor<4xf32> {role = #train.role<buffer>}
  train.state @zopt.loss_sum : tensor<f32> {role = #train.role<scalar>}
  func.func @micro_step(%x: tensor<2x4xf32> {train.name = "x"}, %i: tensor<2x4xi64> {train.name = "i"}, %t: tensor<2x4xf32> {train.name = "labels", train.label}) {
    %w = train.read_state @w : tensor<4x4xf32>
    %table = train.read_state @table : tensor<4xf32>
    %three = train.constant dense<3> : tensor<i64> : tensor<i64>
    %zero = train.constant dense<0.0> : tensor<f32> : tensor<f32>
    %lowest = train.constant dense<0xFF7FFFFF> : tensor<f32> : tensor<f32>
    %c = train.compare lt %i, %three : tensor<2x4xi64>, tensor<i64> -> tensor<2x4xi1>
    %mask = train.select %c, %zero, %lowest : tensor<2x4xi1>, tensor<f32>, tensor<f32> -> tensor<2x4xf32>
    %shifted = train.add %mask, %table : tensor<2x4xf32>, tensor<4xf32> -> tensor<2x4xf32>
    %y = train.matmul %x, %w : tensor<2x4xf32>, tensor<4x4xf32> -> tensor<2x4xf32>
    %z = train.add %y, %shifted : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
    %n, %mean, %rstd = train.layer_norm %z {epsilon = 1.0e-5 : f64} : tensor<2x4xf32> -> tensor<2x4xf32>, tensor<2xf32>
    %d = train.sub %n, %t {train.loss} : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
    %d2 = train.mul %d, %d {train.loss} : tensor<2x4xf32>, tensor<2x4xf32> -> tensor<2x4xf32>
    %loss = train.reduce_sum %d2 [0, 1] {train.loss} : tensor<2x4xf32> -> tensor<f32>
    train.accumulate @zopt.loss_sum, %loss {train.loss} : tensor<f32>
    train.backward %loss seed %loss {train.loss} : tensor<f32>
    return
  }
}

// -----

// Logits enter cross_entropy in bf16. Attention's mask and rotary's tables keep their precision. A conversion between floats means nothing any more.
// CHECK-LABEL: module @transformer
// CHECK: %[[Q:.*]] = train.reshape %{{.*}} : tensor<1x1x3x2xbf16> -> tensor<1x1x3x2xbf16>
// CHECK-NOT: train.cast
// CHECK: %[[R:.*]] = train.rotary %[[Q]], %{{.*}}, %{{.*}} : tensor<1x1x3x2xbf16>, tensor<1x1x3x1xf32>
// CHECK: %[[O:.*]], %{{.*}} = train.attention %[[R]], %[[R]], %[[Q]] mask %{{.*}} : tensor<3x3xf32> {{.*}} : tensor<1x1x3x2xbf16>, tensor<1x1x3x2xbf16>, tensor<1x1x3x2xbf16> -> tensor<1x1x3x2xbf16>, tensor<1x1x3xf32>
// CHECK: train.cross_entropy %[[O]], %{{.*}} : tensor<1x1x3x2xbf16>, tensor<1x1x3xi64> -> tensor<f32>, tensor<1x1x3xf32>
module @transformer {
  train.state @w : tensor<1x1x3x2xf32> {role = #train.role<parameter>, trained}
  train.state @cos : tensor<1x1x3x1xf32> {role = #train.role<buffer>}
  train.state @mask : tensor<3x3xf32> {role = #train.role<buffer>}
  func.func @micro_step(%labels: tensor<1x1x3xi64> {train.name = "labels", train.label}) {
    %w = train.read_state @w : tensor<1x1x3x2xf32>
    %cos = train.read_state @cos : tensor<1x1x3x1xf32>
    %mask = train.read_state @mask : tensor<3x3xf32>
    %q = train.reshape %w : tensor<1x1x3x2xf32> -> tensor<1x1x3x2xf32>
    %wide = train.cast %q : tensor<1x1x3x2xf32> -> tensor<1x1x3x2xf64>
    %back = train.cast %wide : tensor<1x1x3x2xf64> -> tensor<1x1x3x2xf32>
    %r = train.rotary %back, %cos, %cos : tensor<1x1x3x2xf32>, tensor<1x1x3x1xf32>
    %o, %lse = train.attention %r, %r, %q mask %mask : tensor<3x3xf32> {scale = 1.0 : f64} : tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32>, tensor<1x1x3x2xf32> -> tensor<1x1x3x2xf32>, tensor<1x1x3xf32>
    %loss, %count, %l = train.cross_entropy %o, %labels {train.loss} : tensor<1x1x3x2xf32>, tensor<1x1x3xi64> -> tensor<f32>, tensor<1x1x3xf32>
    train.backward %loss seed %loss {train.loss} : tensor<f32>
    return
  }
}

// -----

// Outputs of a forward graph are delivered as declared.
// CHECK-LABEL: module @outputs
// CHECK: func.func @forward(%{{.*}}: tensor<2xf32> {train.name = "x"}) -> (tensor<2xf32> {train.name = "y"})
// CHECK: %[[Y:.*]] = train.exp %{{.*}} : tensor<2xbf16>
// CHECK: %[[Y32:.*]] = train.cast %[[Y]] : tensor<2xbf16> -> tensor<2xf32>
// CHECK: return %[[Y32]]
// F64-LABEL: module @outputs
// F64: -> (tensor<2xf64> {train.name = "y"})
module @outputs {
  func.func @forward(%x: tensor<2xf32> {train.name = "x"}) -> (tensor<2xf32> {train.name = "y"}) {
    %y = train.exp %x : tensor<2xf32>
    return %y : tensor<2xf32>
  }
}

// -----

// What is marked stays in fp32, and so does what moves its operands; bits are those of the format that the op names, and drawn numbers fp32.
// CHECK-LABEL: module @marked
// CHECK: %[[X16:.*]] = train.cast %{{.*}} : tensor<2x2xf32> -> tensor<2x2xbf16>
// CHECK: %[[E:.*]] = train.exp %[[X16]] : tensor<2x2xbf16>
// CHECK: %[[E32:.*]] = train.cast %[[E]] : tensor<2x2xbf16> -> tensor<2x2xf32>
// CHECK: %[[R:.*]] = train.reshape %[[E32]] : tensor<2x2xf32> -> tensor<4xf32>
// CHECK: %[[F:.*]] = train.floor %[[R]] : tensor<4xf32>
// CHECK: %[[F16:.*]] = train.cast %[[F]] : tensor<4xf32> -> tensor<4xbf16>
// CHECK: train.exp %[[F16]] : tensor<4xbf16>
// CHECK: train.bitcast %{{.*}} as f32 : tensor<4xbf16> -> tensor<4xi32>
// CHECK: train.uniform %{{.*}} {id = 0 : i64} : tensor<4xbf16> -> tensor<4xf32>
// F64-LABEL: module @marked
// F64: train.floor %{{.*}} : tensor<4xf64>
// F64: train.bitcast %{{.*}} as f32 : tensor<4xf64> -> tensor<4xi32>
module @marked {
  func.func @forward(%x: tensor<2x2xf32> {train.name = "x"}) -> (tensor<4xi32> {train.name = "y"}, tensor<4xf32> {train.name = "u"}) {
    %e = train.exp %x : tensor<2x2xf32>
    %r = train.reshape %e : tensor<2x2xf32> -> tensor<4xf32>
    %f = train.floor %r {train.full_precision} : tensor<4xf32>
    %g = train.exp %f : tensor<4xf32>
    %y = train.bitcast %g as f32 : tensor<4xf32> -> tensor<4xi32>
    %u = train.uniform %g {id = 0 : i64} : tensor<4xf32> -> tensor<4xf32>
    return %y, %u : tensor<4xi32>, tensor<4xf32>
  }
}
