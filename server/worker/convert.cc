#include "server/worker/convert.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "core/base/status.h"
#include "slices/definition/shown_type.h"
#include "slices/plan/read_paths.h"

namespace icepie::server {
namespace {

using google::protobuf::Timestamp;

absl::Status Invalid(const std::string& message) {
  return MakeError(absl::StatusCode::kInvalidArgument, message, "PARAMETER_INVALID");
}

void SetMicros(int64_t micros, Timestamp* proto) {
  const absl::Time time = absl::FromUnixMicros(micros);
  const int64_t seconds = absl::ToUnixSeconds(time);
  proto->set_seconds(seconds);
  proto->set_nanos(static_cast<int32_t>((micros - seconds * 1000000) * 1000));
}

void SetTime(absl::Time time, Timestamp* proto) { SetMicros(absl::ToUnixMicros(time), proto); }

// `what` is said of a value that is none.
absl::StatusOr<slices::QueryValue> FromProto(const icepie::v1::Value& proto,
                                             const std::string& what) {
  using icepie::v1::Value;
  switch (proto.kind_case()) {
    case Value::kNull:
      return slices::QueryValue(std::monostate());
    case Value::kBoolean:
      return slices::QueryValue(proto.boolean());
    case Value::kInteger:
      return slices::QueryValue(int64_t{proto.integer()});
    case Value::kDouble:
      return slices::QueryValue(proto.double_());
    case Value::kDecimal:
      return slices::QueryValue(slices::DecimalValue{proto.decimal()});
    case Value::kText:
      return slices::QueryValue(proto.text());
    case Value::kBlob:
      return slices::QueryValue(slices::BlobValue{proto.blob()});
    case Value::kTimestamp:
      return slices::QueryValue(absl::FromUnixSeconds(proto.timestamp().seconds()) +
                                absl::Nanoseconds(proto.timestamp().nanos()));
    case Value::KIND_NOT_SET:
      break;
  }
  return Invalid(absl::StrCat(what,
                              " is a value of no kind: set one of null, boolean, integer, double, "
                              "decimal, text, blob, timestamp"));
}

absl::StatusOr<slices::SelectFilter::Operator> OperatorOf(const icepie::v1::Filter& filter) {
  using icepie::v1::Filter;
  using Operator = slices::SelectFilter::Operator;
  switch (filter.operator_()) {
    case Filter::EQ:
      return Operator::kEq;
    case Filter::NEQ:
      return Operator::kNeq;
    case Filter::LT:
      return Operator::kLt;
    case Filter::LTE:
      return Operator::kLte;
    case Filter::GT:
      return Operator::kGt;
    case Filter::GTE:
      return Operator::kGte;
    case Filter::IN:
      return Operator::kIn;
    case Filter::IS_NULL:
      return Operator::kIsNull;
    case Filter::IS_NOT_NULL:
      return Operator::kIsNotNull;
    default:
      return Invalid(
          absl::StrCat("the filter of column \"", filter.column(), "\" has ",
                       filter.operator_() == Filter::OPERATOR_UNSPECIFIED
                           ? "no operator"
                           : absl::StrCat("operator ", static_cast<int>(filter.operator_()),
                                          ", which is not known"),
                       ": set one of EQ, NEQ, LT, LTE, GT, GTE, IN, IS_NULL, IS_NOT_NULL"));
  }
}

absl::StatusOr<slices::RowStyle::Format> FromProto(icepie::v1::RowFormat format) {
  using Format = slices::RowStyle::Format;
  switch (format) {
    case icepie::v1::ROW_FORMAT_JSON:
      return Format::kJson;
    case icepie::v1::ROW_FORMAT_NDJSON:
      return Format::kNdjson;
    case icepie::v1::ROW_FORMAT_CSV:
      return Format::kCsv;
    default:
      return Invalid(absl::StrCat("format ", static_cast<int>(format),
                                  " is not known: set one of ROW_FORMAT_JSON, ROW_FORMAT_NDJSON, "
                                  "ROW_FORMAT_CSV"));
  }
}

absl::StatusOr<slices::SelectQuestion> FromProto(const icepie::v1::Select& proto) {
  slices::SelectQuestion select;
  select.slice = proto.slice();
  select.columns.assign(proto.columns().begin(), proto.columns().end());
  for (const auto& filter : proto.filters()) {
    slices::SelectFilter& added = select.filters.emplace_back();
    added.column = filter.column();
    ICEPIE_ASSIGN_OR_RETURN(added.op, OperatorOf(filter));
    for (const auto& value : filter.values()) {
      ICEPIE_ASSIGN_OR_RETURN(
          slices::QueryValue converted,
          FromProto(value, absl::StrCat("in the filter of column \"", filter.column(), "\"")));
      added.values.push_back(std::move(converted));
    }
  }
  for (const auto& order : proto.order_by()) {
    select.order_by.push_back({order.column(), order.descending()});
  }
  if (proto.has_limit()) select.limit = proto.limit();
  return select;
}

slices::AsOf AsOfFromProto(const icepie::v1::Consistency& proto) {
  slices::AsOf as_of;
  as_of.snapshot = proto.as_of_snapshot();
  if (proto.has_as_of_position()) as_of.position = proto.as_of_position();
  if (proto.has_as_of_time()) {
    as_of.time = absl::FromUnixSeconds(proto.as_of_time().seconds()) +
                 absl::Nanoseconds(proto.as_of_time().nanos());
  }
  return as_of;
}

void PartToProto(const slices::SliceFault& fault, icepie::v1::SliceError* proto) {
  proto->set_reason(fault.reason);
  proto->set_message(fault.message);
  SetTime(fault.time, proto->mutable_time());
}

void PartToProto(const slices::SnapshotInfo& snapshot, icepie::worker::v1::SnapshotInfo* proto) {
  proto->set_path(snapshot.path);
  proto->set_position(snapshot.position);
  SetTime(snapshot.time, proto->mutable_time());
  proto->set_sha256(snapshot.sha256);
  proto->set_content_version(snapshot.content_version);
  proto->set_rows(snapshot.rows);
}

void PartToProto(const slices::GenerationDiff& diff, icepie::v1::GenerationDiff* proto) {
  proto->set_base_generation(diff.base_generation);
  proto->set_base_position(diff.base_position);
  proto->set_position(diff.position);
  proto->set_base_rows(diff.base_rows);
  proto->set_rows(diff.rows);
  proto->set_added(diff.added);
  proto->set_removed(diff.removed);
  proto->set_changed(diff.changed);
  for (const std::string& sample : diff.samples) proto->add_samples(sample);
  proto->set_unavailable(diff.unavailable);
  for (const slices::ColumnChange& column : diff.columns) {
    auto* added = proto->add_columns();
    added->set_name(column.name);
    added->set_base_type(column.base_type);
    added->set_new_type(column.new_type);
  }
  proto->set_not_by_key(diff.not_by_key);
  if (!diff.from_quarantine) return;
  auto* from_quarantine = proto->mutable_from_quarantine();
  from_quarantine->set_records(diff.from_quarantine->records);
  from_quarantine->set_added(diff.from_quarantine->rows.added);
  from_quarantine->set_removed(diff.from_quarantine->rows.removed);
  from_quarantine->set_changed(diff.from_quarantine->rows.changed);
}

void PartToProto(const slices::OutputColumn& column, icepie::v1::Column* proto) {
  proto->set_name(column.name);
  proto->set_type(slices::ShownType(column.type));
}

void ProgressToProto(const slices::Progress& progress, icepie::worker::v1::SliceReport* proto) {
  proto->set_applied_position(progress.applied_position);
  if (progress.applied_time_us > 0) {
    SetMicros(progress.applied_time_us, proto->mutable_applied_time());
  }
  if (progress.event_time_max_us != INT64_MIN) {
    SetMicros(progress.event_time_max_us, proto->mutable_event_time_max());
  }
  proto->mutable_counts()->set_input(progress.input);
  proto->mutable_counts()->set_applied(progress.applied);
  proto->mutable_counts()->set_filtered(progress.filtered);
  proto->mutable_counts()->set_quarantined(progress.quarantined);
  proto->set_content_version(progress.content_version);
}

absl::Time FromTimestamp(const Timestamp& proto) {
  return absl::FromUnixSeconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

void PartToProto(const slices::ExpectationResult& result, icepie::v1::ExpectationResult* proto) {
  using icepie::v1::ExpectationResult;
  proto->set_name(result.name);
  proto->set_check(result.check);
  proto->set_severity(result.severity == slices::ExpectationSeverity::kWarn
                          ? ExpectationResult::WARN
                          : ExpectationResult::ERROR);
  proto->set_status(static_cast<ExpectationResult::Status>(result.status));
  proto->set_failing_rows(result.failing_rows);
  for (const std::string& sample : result.samples) proto->add_samples(sample);
  proto->set_position(result.position);
  if (result.time != absl::Time()) SetTime(result.time, proto->mutable_time());
  proto->set_message(result.message);
}

void PartToProto(const slices::SliceReport& report, icepie::worker::v1::SliceReport* proto) {
  proto->set_slice(report.info.slice);
  proto->set_generation(report.info.number);
  proto->set_definition_hash(report.info.definition_hash);
  proto->set_state(static_cast<icepie::v1::SliceState>(report.state));
  SetTime(report.state_since, proto->mutable_state_since());
  if (report.last_error) PartToProto(*report.last_error, proto->mutable_last_error());
  if (report.next_retry_time) SetTime(*report.next_retry_time, proto->mutable_next_retry_time());
  if (report.next_refresh_time && *report.next_refresh_time != absl::InfiniteFuture()) {
    SetTime(*report.next_refresh_time, proto->mutable_next_refresh_time());
  }
  if (report.oldest_unapplied) {
    SetTime(*report.oldest_unapplied, proto->mutable_oldest_unapplied_time());
  }
  if (report.not_saved) PartToProto(*report.not_saved, proto->mutable_not_saved());
  proto->set_no_rows(report.no_rows);
  ProgressToProto(report.progress, proto);
  proto->mutable_counts()->set_unacknowledged(report.unacknowledged);
  if (report.snapshot) PartToProto(*report.snapshot, proto->mutable_snapshot());
  proto->set_strategy(report.info.strategy);
  for (const auto& column : report.info.columns) PartToProto(column, proto->add_columns());
  for (const std::string& key : report.info.key) proto->add_key(key);
  proto->set_sql(report.info.sql);
  for (const std::string& read : report.info.reads) proto->add_reads(read);
  proto->set_serving(report.serving);
  for (const auto& result : report.expectations) PartToProto(result, proto->add_expectations());
}

void PartToProto(const slices::BuildReport& build, icepie::worker::v1::BuildReport* proto) {
  proto->set_slice(build.slice);
  proto->set_number(build.number);
  proto->set_phase(build.phase);
  proto->set_done_records(build.done_records);
  proto->set_total_records(build.total_records);
  proto->set_quarantined(build.quarantined);
  if (build.diff) PartToProto(*build.diff, proto->mutable_diff());
  if (build.snapshot) PartToProto(*build.snapshot, proto->mutable_snapshot());
  if (build.error) PartToProto(*build.error, proto->mutable_error());
  for (const auto& result : build.expectations) PartToProto(result, proto->add_expectations());
  proto->set_continues_base(build.continues_base);
  proto->set_done_before(build.done_before);
}

slices::PositionRanges RangesFromProto(
    const google::protobuf::RepeatedPtrField<icepie::worker::v1::PositionRange>& proto) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const auto& range : proto) {
    ranges.emplace_back(range.first_position(), range.end_position());
  }
  return slices::PositionRanges(std::move(ranges));
}

slices::BuildJob FromProto(const icepie::worker::v1::BuildJob& proto) {
  slices::BuildJob job;
  job.slice = proto.slice();
  job.number = proto.number();
  job.base_snapshot = proto.base_snapshot();
  job.base_generation = proto.base_generation();
  job.base_position = proto.base_position();
  if (proto.has_end_position()) job.end_position = proto.end_position();
  for (const auto& [slice, ranges] : proto.acknowledged()) {
    job.acknowledged[slice] = RangesFromProto(ranges.ranges());
  }
  job.other_snapshots.insert(proto.other_snapshots().begin(), proto.other_snapshots().end());
  job.continue_base = proto.continue_base();
  return job;
}

}  // namespace

slices::Assignment FromProto(const icepie::worker::v1::Assignment& proto) {
  slices::Assignment assignment;
  assignment.domain = proto.domain();
  assignment.epoch = proto.epoch();
  for (const auto& each : proto.generations()) {
    slices::GenerationSpec& spec = assignment.generations.emplace_back();
    spec.slice = each.slice();
    spec.number = each.number();
    spec.file = each.file();
    spec.definition_hash = each.definition_hash();
    spec.frozen = each.frozen();
    spec.start_snapshot = each.start_snapshot();
    spec.serving = each.serving();
    spec.acknowledged = RangesFromProto(each.acknowledged());
    spec.suspended = each.suspended();
    spec.restarts = each.restarts();
    spec.deadly_positions.assign(each.deadly_positions().begin(), each.deadly_positions().end());
    spec.probe_begin = each.probe_begin();
    spec.probe_end = each.probe_end();
    spec.probe_records = each.probe_records();
    for (const auto& waiver : each.waivers()) {
      spec.waivers.push_back({waiver.expectation(), waiver.has_until()
                                                        ? FromTimestamp(waiver.until())
                                                        : absl::InfiniteFuture()});
    }
  }
  if (proto.has_build()) assignment.build = FromProto(proto.build());
  return assignment;
}

absl::StatusOr<slices::Question> FromProto(const icepie::worker::v1::WorkerQueryRequest& proto) {
  slices::Question question;
  if (proto.has_sql()) {
    question.text = proto.sql();
  } else if (proto.has_select()) {
    ICEPIE_ASSIGN_OR_RETURN(question.text, FromProto(proto.select()));
  } else {
    return Invalid("a question is either sql or select");
  }
  for (const auto& [name, value] : proto.parameters()) {
    ICEPIE_ASSIGN_OR_RETURN(question.parameters[name],
                            FromProto(value, absl::StrCat("parameter $", name)));
  }
  question.fingerprint = proto.fingerprint();
  if (proto.has_as_of()) question.as_of = AsOfFromProto(proto.as_of());
  if (proto.has_min_position()) question.min_position = proto.min_position();
  question.max_wait = absl::Milliseconds(proto.max_wait_ms());
  question.rows_max = proto.max_rows();
  ICEPIE_ASSIGN_OR_RETURN(question.style.format, FromProto(proto.format()));
  question.style.exact_as_text = proto.exact_as_text();
  for (const auto& version : proto.known()) {
    question.known.push_back({version.slice(), version.generation(), version.content_version()});
  }
  return question;
}

void ToProto(const slices::EngineReport& report, icepie::worker::v1::WorkerReport* proto) {
  proto->set_epoch(report.epoch);
  proto->set_head_position(report.head_position);
  for (const auto& slice : report.slices) PartToProto(slice, proto->add_slices());
  if (report.build) PartToProto(*report.build, proto->mutable_build());
}

void ToProto(const slices::Answer& answer, icepie::worker::v1::WorkerQueryResponse::Header* proto) {
  for (const auto& slice : answer.slices) PartToProto(slice, proto->add_slices());
  for (const auto& column : answer.columns) PartToProto(column, proto->add_columns());
  proto->set_not_modified(answer.not_modified);
  proto->set_varies(answer.varies);
}

void ToProto(const slices::QuarantinePage& page,
             icepie::v1::ListQuarantinedRecordsResponse* proto) {
  for (const auto& group : page.groups) {
    auto* added = proto->add_groups();
    added->set_code(group.code);
    added->set_column(group.column);
    added->set_path(group.path);
    added->set_sample(group.sample);
    added->set_count(group.count);
    added->set_first_position(group.first_position);
    added->set_last_position(group.last_position);
    added->set_unacknowledged(group.unacknowledged);
  }
  for (const auto& record : page.records) {
    auto* added = proto->add_records();
    added->set_position(record.position);
    added->set_stream(record.stream);
    added->set_offset(record.offset);
    added->set_code(record.code);
    added->set_column(record.column);
    added->set_message(record.message);
    added->set_path(record.path);
    added->set_value(record.value);
    added->set_acknowledged(record.acknowledged);
  }
  proto->set_total(page.total);
  proto->set_more(page.more);
}

void ToProto(const slices::RecordJudgement& judgement, icepie::v1::RecordJudgement* proto) {
  proto->set_verdict(static_cast<icepie::v1::RecordJudgement::Verdict>(judgement.verdict));
  proto->set_code(judgement.code);
  proto->set_column(judgement.column);
  proto->set_message(judgement.message);
  if (!judgement.offset) return;
  proto->set_byte_offset(static_cast<int64_t>(*judgement.offset));
  proto->set_byte_count(static_cast<int64_t>(judgement.size));
}

void ToProto(const slices::TracedSlice& slice, icepie::v1::SliceTrace* proto) {
  proto->set_slice(slice.standing.slice);
  proto->set_fate(static_cast<icepie::v1::RecordFate>(slice.fate));
  proto->set_generation(slice.standing.generation);
  proto->set_applied_position(slice.standing.applied_position);
  proto->set_via(slice.via);
  proto->set_unknown_cause(slice.unknown);
  if (slice.fate != slices::RecordFate::kQuarantined || !slice.standing.quarantined) return;
  proto->mutable_error()->set_code(slice.standing.quarantined->code);
  proto->mutable_error()->set_column(slice.standing.quarantined->column);
  proto->mutable_error()->set_message(slice.standing.quarantined->message);
}

void ToProto(const slices::MaxStaleDef& max_stale, icepie::v1::MaxStale* proto) {
  proto->set_after_ms(absl::ToInt64Milliseconds(max_stale.after));
  proto->set_then(max_stale.fail ? icepie::v1::MaxStale::FAIL : icepie::v1::MaxStale::SERVE);
}

void ToProto(const slices::PromoteDef& promote, icepie::v1::PromotePolicy* proto) {
  using Policy = icepie::v1::PromotePolicy;
  proto->set_mode(promote.automatic ? Policy::AUTO : Policy::MANUAL);
  if (promote.changed_rows_percent) proto->set_changed_rows_percent(*promote.changed_rows_percent);
  if (promote.changed_rows) proto->set_changed_rows(*promote.changed_rows);
  if (promote.added_rows) proto->set_added_rows(*promote.added_rows);
  if (promote.removed_rows) proto->set_removed_rows(*promote.removed_rows);
  if (promote.quarantined_records) proto->set_quarantined_records(*promote.quarantined_records);
  if (promote.keep_replaced) {
    proto->set_keep_replaced_ms(absl::ToInt64Milliseconds(*promote.keep_replaced));
  }
}

void ToProto(const slices::DomainPlan& plan, icepie::worker::v1::PlanDomainResponse* proto) {
  proto->set_domain(plan.definition.domain);
  for (const auto& slice : plan.slices) {
    auto* added = proto->add_slices();
    const slices::SliceDef* definition = plan.definition.FindSlice(slice.slice);
    added->set_name(slice.slice);
    added->set_strategy(slices::StrategyName(slice.strategy));
    added->set_why(slice.why);
    for (const slices::WhyNot& refused : slice.why_not) {
      auto* why_not = added->add_why_not();
      why_not->set_strategy(slices::StrategyName(refused.strategy));
      why_not->set_why(refused.why);
    }
    added->set_keeps_records(slice.keeps_rows);
    added->set_kept_records_limit(plan.definition.limits.kept_rows);
    added->set_memory_limit_bytes(plan.definition.limits.memory_bytes);
    for (const std::string& stream : slices::StreamsBelow(plan, slice)) {
      added->add_streams(stream);
    }
    for (const auto& column : slice.columns) PartToProto(column, added->add_columns());
    for (const auto& use : slice.sources) {
      added->add_reads(plan.definition.FindSource(use.source)->stream);
    }
    for (const std::string& upstream : slice.upstream) added->add_reads(upstream);
    for (const std::string& statement : slice.create) added->add_statements(statement);
    for (const auto& statement : slice.apply) added->add_statements(statement.sql);
    added->set_definition_hash(slice.definition_hash);
    for (const std::string& key : definition->key) added->add_key(key);
    added->set_sql(definition->sql);
    for (const auto& expectation : slice.expectations) added->add_expectations(expectation.name);
    ToProto(definition->promote, added->mutable_promote());
    added->set_renamed_from(definition->renamed_from);
    if (definition->max_stale) ToProto(*definition->max_stale, added->mutable_max_stale());
  }
  for (const auto& source : plan.definition.sources) {
    proto->add_streams(source.stream);
    for (const slices::ReadPath& path : slices::ReadPathsOf(source)) {
      auto* added = proto->add_paths();
      added->set_stream(source.stream);
      for (const std::string& member : path.path) added->add_path(member);
      added->set_field(path.field);
      added->set_line(path.place.line);
      added->set_column(path.place.column);
    }
  }
  proto->set_memory_limit_bytes(plan.definition.limits.memory_bytes);
  proto->set_disk_limit_bytes(plan.definition.limits.disk_bytes);
  const slices::LimitsDef& limits = plan.definition.limits;
  if (limits.query_timeout > absl::ZeroDuration()) {
    proto->set_query_timeout_ms(absl::ToInt64Milliseconds(limits.query_timeout));
  }
  if (limits.states_max_result_rows) proto->set_max_result_rows(limits.max_result_rows);
  if (limits.states_kept_rows) proto->set_kept_rows(limits.kept_rows);
  if (plan.definition.idle_after) {
    proto->set_idle_after_ms(absl::ToInt64Milliseconds(*plan.definition.idle_after));
  }
}

}  // namespace icepie::server
