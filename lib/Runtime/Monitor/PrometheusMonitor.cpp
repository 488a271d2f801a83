//===- PrometheusMonitor.cpp - the last step, for those who ask -----------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/Monitors.h"
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstring>
#include <httplib.h>
#include <mutex>
#include <thread>

namespace zopt::runtime {

namespace {

/// Prometheus's text format, version 0.0.4.
class Exposition {
public:
  void add(const char *name, const char *type, const char *help, double value) {
    text += concat("# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n", name, " ");
    addNumber(value);
  }
  /// A gauge with a sample a term.
  void add(const char *name, const char *help, const LossTerms &terms) {
    if (!terms.empty())
      text += concat("# HELP ", name, " ", help, "\n# TYPE ", name, " gauge\n");
    for (const auto &[term, value] : terms) {
      text += concat(name, "{term=\"");
      for (char c : term)
        text += c == '\n' ? "\\n" : c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
      text += "\"} ";
      addNumber(value);
    }
  }
  std::string text;

private:
  void addNumber(double value) {
    if (std::isfinite(value)) {
      char digits[32];
      text.append(digits, size_t(std::to_chars(digits, digits + sizeof digits, value).ptr - digits));
    } else {
      text += std::isnan(value) ? "NaN" : value > 0 ? "+Inf" : "-Inf";
    }
    text += '\n';
  }
};

class PrometheusMonitor : public Monitor {
public:
  ~PrometheusMonitor() override { (void)close(); }

  Status start(int port) {
    // The library's own options let two processes share a port, which would answer in turn.
    server.set_socket_options([](socket_t socket) {
      int yes = 1;
      setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    server.set_tcp_nodelay(true);
    // One thread serves, one request a connection; who sends or takes nothing for a second is hung up on.
    server.new_task_queue = [] { return new httplib::ThreadPool(1); };
    server.set_keep_alive_max_count(1);
    server.set_keep_alive_timeout(1); // also until the first byte
    server.set_read_timeout(1);
    server.set_write_timeout(1);
    server.set_payload_max_length(0);
    server.Get("/metrics", [this](const httplib::Request &, httplib::Response &response) {
      response.set_content(describe(), "text/plain; version=0.0.4; charset=utf-8");
    });
    errno = 0;
    if (!server.bind_to_port("127.0.0.1", port))
      return callError("bind", std::strerror(errno ? errno : EADDRINUSE)).in(concat("--prometheus: 127.0.0.1:", port));
    // Signals are the run's.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    thread = std::thread([this] { server.listen_after_bind(); });
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return success();
  }

  Status step(const StepEvent &event) override {
    std::lock_guard<std::mutex> lock(mutex);
    last = event;
    time = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
    ++steps;
    skipped += event.skipped;
    return success();
  }

  Status evaluation(const EvaluationEvent &event) override {
    std::lock_guard<std::mutex> lock(mutex);
    lastEvaluation = event;
    return success();
  }

  Status close() override {
    if (thread.joinable()) {
      // A server that has not begun to listen yet does not hear that it should stop.
      while (!server.is_running())
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      server.stop();
      thread.join();
    }
    return success();
  }

private:
  std::string describe() {
    StepEvent event;
    std::optional<EvaluationEvent> evaluation;
    int64_t done, left;
    double when;
    {
      std::lock_guard<std::mutex> lock(mutex);
      event = last;
      evaluation = lastEvaluation;
      done = steps;
      left = skipped;
      when = time;
    }
    Exposition page;
    page.add("zopt_process_steps_total", "counter", "Steps of this process.", double(done));
    page.add("zopt_process_skipped_steps_total", "counter", "Steps of this process that were skipped.", double(left));
    if (done == 0)
      return page.text;
    page.add("zopt_step", "gauge", "The last step, resumed ones included.", double(event.step));
    page.add("zopt_epoch", "gauge", "Its epoch, from 0.", double(event.epoch));
    page.add("zopt_samples", "gauge", "Samples consumed, resumed ones included.", double(event.samples));
    if (event.tokens)
      page.add("zopt_tokens", "gauge", "Tokens consumed, resumed ones included.", double(*event.tokens));
    page.add("zopt_loss", "gauge", "Loss of the last step.", event.loss);
    page.add("zopt_loss_term", "Terms of the loss of the last step, without their weights.", event.terms);
    page.add("zopt_gradient_norm", "gauge", "Gradient norm of the last step, before clipping.", event.gradientNorm);
    page.add("zopt_learning_rate", "gauge", "Learning rate of the last step.", event.learningRate);
    if (event.lossScale)
      page.add("zopt_loss_scale", "gauge", "Loss scale of the last step.", *event.lossScale);
    page.add("zopt_step_seconds", "gauge", "Duration of the last step.", event.stepMilliseconds / 1e3);
    page.add("zopt_samples_per_second", "gauge", "Samples a second in the last step.", event.samplesPerSecond);
    if (event.tokens)
      page.add("zopt_tokens_per_second", "gauge", "Tokens a second in the last step.", event.tokensPerSecond);
    if (event.flops)
      page.add("zopt_flops_per_second", "gauge", "Floating-point operations of the model a second, of all ranks, in the last step.", *event.flops);
    if (event.mfu)
      page.add("zopt_model_flops_utilization", "gauge", "The same as a share of what the devices can do at most.", *event.mfu);
    if (evaluation) {
      page.add("zopt_eval_step", "gauge", "The step after which held-out data was looked at last.", double(evaluation->step));
      page.add("zopt_eval_loss", "gauge", "Its loss.", evaluation->loss);
      page.add("zopt_eval_loss_term", "Terms of its loss, without their weights.", evaluation->terms);
      if (evaluation->perplexity)
        page.add("zopt_eval_perplexity", "gauge", "Its perplexity.", *evaluation->perplexity);
      if (evaluation->accuracy)
        page.add("zopt_eval_accuracy", "gauge", "Share of its labels that were predicted.", *evaluation->accuracy);
    }
    page.add("zopt_last_step_timestamp_seconds", "gauge", "When the last step ended, since 1970.", when);
    return page.text;
  }

  httplib::Server server;
  std::thread thread;
  std::mutex mutex; // of what follows
  StepEvent last;
  std::optional<EvaluationEvent> lastEvaluation;
  int64_t steps = 0, skipped = 0;
  double time = 0;
};

} // namespace

Result<std::unique_ptr<Monitor>> startPrometheusMonitor(int port) {
  auto monitor = std::make_unique<PrometheusMonitor>();
  ZOPT_RETURN_IF_FAILED(monitor->start(port));
  return std::unique_ptr<Monitor>(std::move(monitor));
}

} // namespace zopt::runtime
