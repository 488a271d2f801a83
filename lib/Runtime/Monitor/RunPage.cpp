//===- RunPage.cpp - a run as one page ------------------------------------===//
//
// Part of zopt, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//

#include "zopt/Runtime/Monitor/RunPage.h"
#include "zopt/Runtime/Core/File.h"
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <vector>

namespace zopt::runtime {

namespace {

using Json = nlohmann::ordered_json;

std::string escape(const std::string &text) {
  std::string escaped;
  for (char character : text)
    switch (character) {
    case '&':
      escaped += "&amp;";
      break;
    case '<':
      escaped += "&lt;";
      break;
    case '>':
      escaped += "&gt;";
      break;
    case '"':
      escaped += "&quot;";
      break;
    case '\'':
      escaped += "&#39;";
      break;
    default:
      escaped += character;
    }
  return escaped;
}

std::string format(const char *pattern, double value) {
  char text[48];
  std::snprintf(text, sizeof text, pattern, value);
  return text;
}
std::string textOf(const Json &value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

struct Point {
  double step, value;
};

/// Numbers of a field, and "nan", "inf", "-inf" as what they say. Steps without it have no point.
std::vector<Point> seriesOf(const std::vector<Json> &steps, const char *field) {
  std::vector<Point> points;
  for (const Json &step : steps)
    if (auto found = step.find(field); found != step.end() && found->is_number())
      points.push_back({step["step"].get<double>(), found->get<double>()});
    else if (found != step.end() && found->is_string())
      points.push_back({step["step"].get<double>(), std::nan("")});
  return points;
}

constexpr double kWidth = 720, kHeight = 220, kLeft = 90, kRight = 12, kTop = 12, kBottom = 28;
constexpr size_t kColumns = 600;

/// A line over the steps. Longer runs are drawn as the least and the greatest value of each of kColumns columns, so
/// that no peak is lost. What is not finite interrupts the line and is marked at the lower edge.
std::string plot(const std::string &title, const std::vector<Point> &points) {
  double low = 0, high = 0;
  bool any = false;
  for (const Point &point : points)
    if (std::isfinite(point.value)) {
      low = any ? std::min(low, point.value) : point.value;
      high = any ? std::max(high, point.value) : point.value;
      any = true;
    }
  double first = points.front().step, last = points.back().step;
  // One value, or one step, lies in the middle.
  double below = low, span = high - low, begin = first, range = last - first;
  if (!(span > 0))
    span = std::max(std::abs(low), 1e-30), below = low - span / 2;
  if (!(range > 0))
    range = 1, begin = first - 0.5;
  auto x = [&](double step) { return kLeft + (step - begin) / range * (kWidth - kLeft - kRight); };
  auto y = [&](double value) { return kHeight - kBottom - (value - below) / span * (kHeight - kTop - kBottom); };
  std::string lines, marks, line;
  auto end = [&] {
    if (!line.empty())
      lines += "<polyline points=\"" + line + "\"/>";
    line.clear();
  };
  auto add = [&](const Point &point) {
    line += (line.empty() ? "" : " ") + format("%.2f", x(point.step)) + "," + format("%.2f", y(point.value));
  };
  const size_t column = (points.size() + kColumns - 1) / kColumns;
  for (size_t i = 0; i < points.size(); i += column) {
    const Point *least = nullptr, *greatest = nullptr;
    for (size_t k = i; k < std::min(points.size(), i + column); ++k) {
      if (!std::isfinite(points[k].value)) {
        marks += "<circle cx=\"" + format("%.2f", x(points[k].step)) + "\" cy=\"" + format("%.2f", kHeight - kBottom) +
                 "\" r=\"3\"/>";
        continue;
      }
      least = !least || points[k].value < least->value ? &points[k] : least;
      greatest = !greatest || points[k].value > greatest->value ? &points[k] : greatest;
    }
    if (!least) {
      end();
      continue;
    }
    add(least->step < greatest->step ? *least : *greatest);
    if (least != greatest)
      add(least->step < greatest->step ? *greatest : *least);
  }
  end();
  auto text = [](double x, double y, const char *anchor, const std::string &content) {
    return "<text x=\"" + format("%.2f", x) + "\" y=\"" + format("%.2f", y) + "\" text-anchor=\"" + anchor + "\">" +
           content + "</text>";
  };
  std::string svg =
      "<h2>" + escape(title) + "</h2>\n<svg viewBox=\"0 0 720 220\" role=\"img\" aria-label=\"" + escape(title) + "\">";
  svg += "<rect x=\"" + format("%.2f", kLeft) + "\" y=\"" + format("%.2f", kTop) + "\" width=\"" +
         format("%.2f", kWidth - kLeft - kRight) + "\" height=\"" + format("%.2f", kHeight - kTop - kBottom) + "\"/>";
  if (any) {
    svg += text(kLeft - 6, y(high) + 4, "end", format("%.5g", high));
    if (high > low)
      svg += text(kLeft - 6, y(low) + 4, "end", format("%.5g", low));
  }
  svg += text(x(first), kHeight - 8, "middle", format("%.0f", first));
  if (last > first)
    svg += text(x(last), kHeight - 8, "end", format("%.0f", last));
  return svg + lines + marks + "</svg>\n";
}

/// Bars of the planned and the measured peak of each tier that is used.
std::string plotMemory(const Json &planned, const Json &measured) {
  double most = 1;
  std::vector<std::pair<std::string, double>> bars;
  for (const char *tier : {"device", "host", "file"})
    for (auto [name, bytes] : {std::pair("planned", &planned), std::pair("measured", &measured)})
      if (bytes->is_object() && bytes->contains(tier) && (*bytes)[tier].is_number() &&
          (*bytes)[tier].get<double>() > 0) {
        bars.push_back({std::string(tier) + ", " + name, (*bytes)[tier].get<double>()});
        most = std::max(most, bars.back().second);
      }
  if (bars.empty())
    return "";
  std::string svg = "<h2>peak memory of a rank</h2>\n<svg viewBox=\"0 0 720 " +
                    format("%.0f", 24.0 * double(bars.size())) +
                    "\" role=\"img\" aria-label=\"peak memory of a rank\">";
  double top = 0;
  for (const auto &[name, bytes] : bars) {
    svg += "<rect class=\"bar\" x=\"140\" y=\"" + format("%.0f", top + 4) + "\" width=\"" +
           format("%.2f", bytes / most * 400) + "\" height=\"16\"/><text x=\"134\" y=\"" + format("%.0f", top + 16) +
           "\" text-anchor=\"end\">" + escape(name) + "</text><text x=\"" + format("%.2f", 146 + bytes / most * 400) +
           "\" y=\"" + format("%.0f", top + 16) + "\">" + format("%.0f", bytes) + " bytes</text>";
    top += 24;
  }
  return svg + "</svg>\n";
}

constexpr const char *kStyle =
    "body{font:14px/1.4 sans-serif;max-width:760px;margin:2em auto;color:#222}svg{width:100%}svg text{font:11px "
    "sans-serif;fill:#555}rect{fill:none;stroke:#ccc}rect.bar{fill:#4477aa;stroke:none}polyline{fill:none;stroke:#"
    "4477aa;"
    "stroke-width:1.5}circle{fill:#cc3311}td{padding:0 1em 0 "
    "0;vertical-align:top;overflow-wrap:anywhere}h2{font-size:15px}";

} // namespace

Result<std::string> makeRunPage(std::istream &lines, const std::string &name) {
  std::vector<Json> steps, evaluations, others;
  Json start, end;
  std::string problems;
  int64_t number = 0, wrong = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    Json record = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!record.is_object() || !record.contains("event") || !record["event"].is_string() ||
        ((record["event"] == "step" || record["event"] == "eval") &&
         (!record.contains("step") || !record["step"].is_number()))) {
      if (++wrong <= 10)
        problems += (problems.empty() ? "" : ", ") + std::to_string(number);
      continue;
    }
    if (record["event"] == "step")
      steps.push_back(std::move(record));
    else if (record["event"] == "eval")
      evaluations.push_back(std::move(record));
    else if (record["event"] == "start")
      start = std::move(record);
    else if (record["event"] == "end")
      end = std::move(record);
    else
      others.push_back(std::move(record));
  }
  if (wrong > 0)
    return inputError(name, ": ", wrong, " of ", number, " lines are no records of --metrics: ", problems,
                      wrong > 10 ? ", ..." : "");
  if (number == 0)
    return inputError(name, ": holds no records");
  std::string page = "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>" + escape(name) +
                     "</title><style>" + kStyle + "</style></head><body>\n<h1>" + escape(name) + "</h1>\n<table>\n";
  for (const Json *record : {&start, &end})
    if (record->is_object())
      for (const auto &[key, value] : record->items())
        if (key != "event" && key != "time" && !value.is_object())
          page += "<tr><td>" + escape(key) + "</td><td>" + escape(textOf(value)) + "</td></tr>\n";
  page += "</table>\n";
  for (auto [field, title] :
       {std::pair("loss", "loss"), std::pair("lr", "learning rate"),
        std::pair("grad_norm", "gradient norm, before clipping"), std::pair("loss_scale", "loss scale"),
        std::pair("tokens_per_s", "tokens a second"), std::pair("samples_per_s", "samples a second"),
        std::pair("mfu", "share of the devices' peak flops (MFU)")})
    if (std::vector<Point> points = seriesOf(steps, field); !points.empty())
      page += plot(title, points);
  for (auto [records, title] : {std::pair(&steps, "loss: "), std::pair(&evaluations, "evaluation loss: ")})
    if (!records->empty())
      for (const auto &[field, value] : records->front().items()) // a loss's terms
        if (field.rfind("loss/", 0) == 0)
          page += plot(title + field.substr(5), seriesOf(*records, field.c_str()));
  for (auto [field, title] : {std::pair("loss", "evaluation loss"), std::pair("perplexity", "evaluation perplexity"),
                              std::pair("accuracy", "evaluation accuracy")})
    if (std::vector<Point> points = seriesOf(evaluations, field); !points.empty())
      page += plot(title, points);
  page += plotMemory(start.is_object() && start.contains("planned_peak") ? start["planned_peak"] : Json(),
                     end.is_object() && end.contains("measured_peak") ? end["measured_peak"] : Json());
  if (!others.empty()) {
    page += "<h2>events</h2>\n<table>\n";
    for (const Json &record : others) {
      std::string text;
      for (const auto &[key, value] : record.items())
        if (key != "event" && key != "time")
          text += (text.empty() ? "" : ", ") + key + " " + textOf(value);
      page += "<tr><td>" + escape(textOf(record["event"])) + "</td><td>" + escape(text) + "</td></tr>\n";
    }
    page += "</table>\n";
  }
  if (!end.is_object())
    page += "<p>The run has not ended, or was killed.</p>\n";
  return page + "</body></html>\n";
}

Status runReportTool(int argc, char **argv) {
  CLI::App app("Makes a page of a metrics file.", "zrun report");
  std::string input, output;
  app.add_option("metrics", input, "The file of --metrics")->required();
  app.add_option("-o,--output", output, "The page; - is stdout")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success &request) {
    app.exit(request);
    return success();
  } catch (const CLI::ParseError &error) {
    return usageError(error.what(), " (zrun report --help lists the flags)");
  }
  std::ifstream lines(input, std::ios::binary);
  if (!lines)
    return fileError(input, "open", errno);
  Result<std::string> page = makeRunPage(lines, input);
  if (page.failed())
    return page.getStatus();
  if (output == "-") {
    std::cout << *page << std::flush;
    return std::cout ? success() : runtimeError("stdout cannot be written");
  }
  Result<OutputFile> file = OutputFile::create(output);
  if (file.failed())
    return file.getStatus();
  ZOPT_RETURN_IF_FAILED(file->append(page->data(), int64_t(page->size())));
  return file->commit();
}

} // namespace zopt::runtime
