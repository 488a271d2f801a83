// RUN: zopt %s --zopt-assign-placement="stage=0 bucket-bytes=1000000" | FileCheck %s

// A table of many rows, but not of a multiple of 64, gets zeros for the rows that are missing; what follows starts behind them. A short one, a round one and a vector get none.
// CHECK: zero.bucket @bucket0 on @data {{.*}}segments = [#zero.segment<@odd, 0, 8200, reserved 504>, #zero.segment<@round, 8704, 8192>, #zero.segment<@short, 16896, 8184>, #zero.segment<@vector, 25088, 1025>]}

module attributes {train.level = "step", train.mode = "train"} {
  train.state @odd : tensor<1025x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @round : tensor<1024x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @short : tensor<1023x8xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.state @vector : tensor<1025xf32> {role = #train.role<parameter>, trained, init = 0.0 : f32}
  train.optimizer @sgd slots [] {
  ^bb0(%p: f32, %g: f32, %lr: f32, %step: f32, %decay: f32):
    train.yield %p : f32
  }
  func.func @micro_step(%tokens: tensor<4xi64>, %d: tensor<1025x8xf32>, %e: tensor<1024x8xf32>, %s: tensor<1023x8xf32>, %v: tensor<1025xf32>) {
    %odd = train.read_state @odd : tensor<1025x8xf32>
    %round = train.read_state @round : tensor<1024x8xf32>
    %short = train.read_state @short : tensor<1023x8xf32>
    %vector = train.read_state @vector : tensor<1025xf32>
    %a = train.gather %odd, %tokens 0 : tensor<1025x8xf32>, tensor<4xi64> -> tensor<4x8xf32>
    %b = train.gather %round, %tokens 0 : tensor<1024x8xf32>, tensor<4xi64> -> tensor<4x8xf32>
    %c = train.gather %short, %tokens 0 : tensor<1023x8xf32>, tensor<4xi64> -> tensor<4x8xf32>
    %n = train.neg %vector : tensor<1025xf32>
    train.accumulate @odd, %d : tensor<1025x8xf32>
    train.accumulate @round, %e : tensor<1024x8xf32>
    train.accumulate @short, %s : tensor<1023x8xf32>
    train.accumulate @vector, %v : tensor<1025xf32>
    return
  }
  func.func @apply_step(%s: tensor<f32>) {
    train.update @odd using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @round using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @short using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    train.update @vector using @sgd scale %s lr %s step %s finite %s decay 0.0 : tensor<f32>
    return
  }
}
