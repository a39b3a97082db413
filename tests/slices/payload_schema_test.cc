#include "slices/reading/payload_schema.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.pb.h>
#include <google/protobuf/dynamic_message.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status.h"
#include "slices/reading/json_scan.h"

namespace icepie::slices {
namespace {

using google::protobuf::FileDescriptorSet;
using google::protobuf::Message;
using ::testing::HasSubstr;

constexpr char kOrders[] = R"pb(
  file {
    name: "orders.proto"
    package: "shop"
    syntax: "proto3"
    dependency: "google/protobuf/timestamp.proto"
    dependency: "google/protobuf/duration.proto"
    dependency: "google/protobuf/wrappers.proto"
    enum_type {
      name: "Status"
      value { name: "NEW" number: 0 }
      value { name: "PAID" number: 2 }
    }
    message_type {
      name: "Amount"
      field { name: "value" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
      field { name: "cents" number: 2 type: TYPE_SINT64 label: LABEL_OPTIONAL }
      field {
        name: "inner"
        number: 3
        type: TYPE_MESSAGE
        type_name: ".shop.Amount"
        label: LABEL_OPTIONAL
      }
    }
    message_type {
      name: "Order"
      field { name: "id" number: 1 type: TYPE_INT64 label: LABEL_OPTIONAL }
      field {
        name: "status"
        number: 2
        type: TYPE_ENUM
        type_name: ".shop.Status"
        label: LABEL_OPTIONAL
      }
      field {
        name: "amount"
        number: 3
        type: TYPE_MESSAGE
        type_name: ".shop.Amount"
        label: LABEL_OPTIONAL
      }
      field {
        name: "fees"
        number: 4
        type: TYPE_MESSAGE
        type_name: ".shop.Amount"
        label: LABEL_REPEATED
      }
      field { name: "numbers" number: 5 type: TYPE_SINT32 label: LABEL_REPEATED }
      field {
        name: "at"
        number: 6
        type: TYPE_MESSAGE
        type_name: ".google.protobuf.Timestamp"
        label: LABEL_OPTIONAL
      }
      field {
        name: "took"
        number: 7
        type: TYPE_MESSAGE
        type_name: ".google.protobuf.Duration"
        label: LABEL_OPTIONAL
      }
      field {
        name: "note"
        number: 8
        type: TYPE_STRING
        label: LABEL_OPTIONAL
        oneof_index: 1
        proto3_optional: true
      }
      field { name: "card" number: 9 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
      field {
        name: "cash"
        number: 10
        type: TYPE_MESSAGE
        type_name: ".shop.Amount"
        label: LABEL_OPTIONAL
        oneof_index: 0
      }
      field {
        name: "tags"
        number: 11
        type: TYPE_MESSAGE
        type_name: ".shop.Order.TagsEntry"
        label: LABEL_REPEATED
      }
      field { name: "ratio" number: 12 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
      field { name: "weight" number: 13 type: TYPE_FLOAT label: LABEL_OPTIONAL }
      field { name: "paid" number: 14 type: TYPE_BOOL label: LABEL_OPTIONAL }
      field { name: "raw" number: 15 type: TYPE_BYTES label: LABEL_OPTIONAL }
      field { name: "big" number: 16 type: TYPE_FIXED64 label: LABEL_OPTIONAL }
      field { name: "small" number: 17 type: TYPE_SFIXED32 label: LABEL_OPTIONAL }
      field {
        name: "limit"
        number: 18
        type: TYPE_MESSAGE
        type_name: ".google.protobuf.Int32Value"
        label: LABEL_OPTIONAL
      }
      oneof_decl { name: "means" }
      oneof_decl { name: "_note" }
      nested_type {
        name: "TagsEntry"
        field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
        field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL }
        options { map_entry: true }
      }
    }
  }
  file {
    name: "old.proto"
    package: "shop.old"
    message_type {
      name: "Order"
      field { name: "id" number: 1 type: TYPE_UINT32 label: LABEL_REQUIRED }
      field { name: "count" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
      field {
        name: "line"
        number: 3
        type: TYPE_GROUP
        type_name: ".shop.old.Order.Line"
        label: LABEL_REPEATED
      }
      nested_type {
        name: "Line"
        field { name: "n" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL }
      }
    }
  })pb";

class PayloadSchemaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    FileDescriptorSet set;
    ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(kOrders, &set));
    bytes_ = set.SerializeAsString();
    for (const char* name : {"google/protobuf/timestamp.proto", "google/protobuf/duration.proto",
                             "google/protobuf/wrappers.proto"}) {
      google::protobuf::FileDescriptorProto file;
      google::protobuf::DescriptorPool::generated_pool()->FindFileByName(name)->CopyTo(&file);
      ASSERT_NE(pool_.BuildFile(file), nullptr);
    }
    for (const auto& file : set.file()) ASSERT_NE(pool_.BuildFile(file), nullptr);
    schema_ = PayloadSchema::Make(bytes_, "shop.Order").value();
  }

  std::unique_ptr<Message> NewMessage(const std::string& type) {
    return std::unique_ptr<Message>(
        factory_.GetPrototype(pool_.FindMessageTypeByName(type))->New());
  }
  std::string Bytes(const std::string& text, const std::string& type = "shop.Order") {
    const auto message = NewMessage(type);
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, message.get())) << text;
    return message->SerializePartialAsString();
  }
  // The JSON text, or "!" and why there is none.
  std::string Json(const std::string& payload) { return Json(*schema_, payload); }
  static std::string Json(const PayloadSchema& schema, const std::string& payload) {
    std::string json;
    std::string error;
    return schema.ToJson(payload, json, error) ? json : "!" + error;
  }
  // Of the field alone.
  std::string Field(const std::string& text, const std::string& field) {
    const std::string json = Json(Bytes(text));
    JsonScanner scanner;
    const int slot = scanner.AddPath({field});
    EXPECT_TRUE(scanner.Scan(json)) << json;
    const JsonValue& value = scanner.value(slot);
    return value.kind == JsonKind::kMissing ? "missing" : std::string(value.raw());
  }

  std::string bytes_;
  google::protobuf::DescriptorPool pool_;
  google::protobuf::DynamicMessageFactory factory_{&pool_};
  std::shared_ptr<const PayloadSchema> schema_;
};

TEST_F(PayloadSchemaTest, APathThatNamesNoFieldIsToldApart) {
  const auto error = [&](const std::vector<std::string>& path) {
    return std::string(schema_->CheckPath(path).message());
  };
  for (const std::vector<std::string>& good :
       std::vector<std::vector<std::string>>{{"id"},
                                             {"amount"},
                                             {"amount", "inner", "inner", "cents"},
                                             {"fees"},
                                             {"fees", "[]", "value"},
                                             {"numbers", "[]"},
                                             {"cash", "cents"},
                                             {"at"},
                                             {"limit"},
                                             {"tags", "17"},
                                             {"tags"},
                                             {"id", "[]"}}) {
    EXPECT_EQ(error(good), "") << absl::StrJoin(good, ".");
  }
  EXPECT_THAT(error({"amuont"}),
              HasSubstr("message shop.Order has no field \"amuont\" (did you mean \"amount\"?"));
  EXPECT_THAT(error({"amount", "Value"}),
              HasSubstr("message shop.Amount has no field \"Value\" (did you mean \"value\"? "
                        "have: value, cents, inner)"));
  EXPECT_THAT(error({"fees", "[]", "kind"}), HasSubstr("no field \"kind\""));
  EXPECT_THAT(error({"fees", "value"}), HasSubstr("field shop.Order.fees is repeated"));
  for (const char* single : {"id", "status", "at", "took", "limit"}) {
    EXPECT_THAT(error({single, "value"}), HasSubstr("there is no \"value\" in a single value"));
  }
}

TEST_F(PayloadSchemaTest, FieldsHaveTheirDefaultsOrAreMissing) {
  EXPECT_EQ(Json(""),
            R"({"id":0,"status":"NEW","fees":[],"numbers":[],"tags":{},"ratio":0,"weight":0,)"
            R"("paid":false,"raw":"","big":0,"small":0})");
  EXPECT_EQ(Field("note: ''", "note"), R"("")");
  EXPECT_EQ(Field("amount {}", "amount"), R"({"value":"","cents":0})");
}

TEST_F(PayloadSchemaTest, ValuesKeepAllTheirDigits) {
  EXPECT_EQ(Field("id: -9223372036854775808", "id"), "-9223372036854775808");
  EXPECT_EQ(Field("big: 18446744073709551615", "big"), "18446744073709551615");
  EXPECT_EQ(Field("small: -7", "small"), "-7");
  EXPECT_EQ(Field("ratio: 0.1", "ratio"), "0.1");
  EXPECT_EQ(Field("ratio: 1e300", "ratio"), "1e+300");
  EXPECT_EQ(Field("ratio: nan", "ratio"), R"("NaN")");
  EXPECT_EQ(Field("ratio: -inf", "ratio"), R"("-Infinity")");
  EXPECT_EQ(Field("weight: 0.1", "weight"), "0.1");
  EXPECT_EQ(Field("numbers: [-1, 2147483647, -2147483648]", "numbers"),
            "[-1,2147483647,-2147483648]");
  EXPECT_EQ(Field(R"(note: "a\"b\\c\nd")", "note"), R"("a\"b\\c\u000ad")");
  EXPECT_EQ(Field(R"(raw: "\000\377")", "raw"), R"("AP8=")");
  EXPECT_EQ(Field("status: PAID", "status"), R"("PAID")");
  EXPECT_EQ(Field("limit { value: 0 }", "limit"), "0");
}

TEST_F(PayloadSchemaTest, TimesAreIso8601AndWhatIsNoTimeIsAText) {
  EXPECT_EQ(Field("at { seconds: 981173106 }", "at"), R"("2001-02-03T04:05:06Z")");
  EXPECT_EQ(Field("at { seconds: 981173106 nanos: 125000000 }", "at"),
            R"("2001-02-03T04:05:06.125Z")");
  EXPECT_EQ(Field("at { seconds: -1 nanos: 1 }", "at"), R"("1969-12-31T23:59:59.000000001Z")");
  EXPECT_EQ(Field("at { seconds: -62135596800 }", "at"), R"("0001-01-01T00:00:00Z")");
  EXPECT_EQ(Field("at { seconds: 253402300800 }", "at"), R"("seconds 253402300800, nanos 0")");
  EXPECT_EQ(Field("at { nanos: -1 }", "at"), R"("seconds 0, nanos -1")");
  EXPECT_EQ(Field("took { seconds: -90 nanos: -500000000 }", "took"), R"("-90.5s")");
  EXPECT_EQ(Field("took { seconds: 1 nanos: -1 }", "took"), R"("seconds 1, nanos -1")");
}

TEST_F(PayloadSchemaTest, OfSeveralTheLastCountsAndMessagesAreMerged) {
  EXPECT_EQ(Json(Bytes("id: 1") + Bytes("id: 2")), Json(Bytes("id: 2")));
  EXPECT_EQ(Json(Bytes("amount { value: 'a' cents: 1 }") + Bytes("amount { cents: 2 }")),
            Json(Bytes("amount { value: 'a' cents: 2 }")));
  EXPECT_EQ(Json(Bytes("card: 'x'") + Bytes("cash { cents: 1 }")),
            Json(Bytes("cash { cents: 1 }")));
  EXPECT_EQ(Json(Bytes("cash { value: 'a' }") + Bytes("card: 'x'") + Bytes("cash { cents: 1 }")),
            Json(Bytes("cash { cents: 1 }")));
  EXPECT_EQ(
      Field("tags { key: 2 value: 'b' } tags { key: 1 value: 'a' } tags { key: 2 value: 'c' }",
            "tags"),
      R"({"1":"a","2":"c"})");
}

TEST_F(PayloadSchemaTest, RequiredFieldsAndGroupsOfProto2) {
  const auto old = PayloadSchema::Make(bytes_, "shop.old.Order").value();
  EXPECT_EQ(Json(*old, ""), "!required field id is missing");
  EXPECT_EQ(Json(*old, Bytes("id: 4294967295", "shop.old.Order")),
            R"({"id":4294967295,"line":[]})");
  EXPECT_EQ(Json(*old, Bytes("id: 1 count: 0 Line { n: 1 } Line { }", "shop.old.Order")),
            R"({"id":1,"count":0,"line":[{"n":1},{}]})");
}

TEST_F(PayloadSchemaTest, WhatIsNoMessageOfTheTypeIsRefused) {
  EXPECT_EQ(Json("\x0f"), "!the bytes are no shop.Order");                  // wire type 7
  EXPECT_EQ(Json(std::string("\x08", 1)), "!the bytes are no shop.Order");  // ends in a number
  EXPECT_EQ(Json("\x1a\x05xx"), "!the bytes are no shop.Order");            // ends in a message
  EXPECT_EQ(Json(std::string("\x0c", 1)), "!the bytes are no shop.Order");  // the end of no group
  EXPECT_EQ(Json(std::string("\x00\x00", 2)), "!the bytes are no shop.Order");
  EXPECT_EQ(Json("\x0d 1234"), "!field id (1) has wire type 5, a int64 has 0");
  EXPECT_EQ(Json("{\"id\":1}").substr(0, 1), "!");
  EXPECT_EQ(Json("\xf8\x07\x01"), Json(""));  // a field that the schema does not know
  std::string deep;
  for (int i = 0; i < 120; ++i) {
    std::string length;
    for (size_t n = deep.size();; n >>= 7) {
      length.push_back(static_cast<char>((n & 0x7F) | (n >= 0x80 ? 0x80 : 0)));
      if (n < 0x80) break;
    }
    deep = "\x1a" + length + deep;
  }
  EXPECT_THAT(Json(deep), HasSubstr("nested deeper than 100 levels"));
  // 800,000 empty fees with their defaults.
  std::string wide;
  for (int i = 0; i < 800000; ++i) wide += std::string("\x22\x00", 2);
  EXPECT_THAT(Json(wide).substr(0, 100), HasSubstr("unfolds to more than 16 MiB"));
}

TEST_F(PayloadSchemaTest, BadSchemasSayWhatIsWrong) {
  const auto error = [](const std::string& set, const std::string& message) {
    const absl::Status status = PayloadSchema::Make(set, message).status();
    return absl::StrCat(ErrorReason(status), " ", status.message());
  };
  EXPECT_THAT(
      error("no set", "shop.Order"),
      HasSubstr("PARAMETER_INVALID descriptor_set: is no google.protobuf.FileDescriptorSet"));
  EXPECT_THAT(error(bytes_, "Order"),
              HasSubstr("message: the descriptor set has no message \"Order\""));
  EXPECT_THAT(error(std::string(300 << 10, 'x'), "a"),
              HasSubstr("has 307200 bytes, at most 262144"));
  FileDescriptorSet incomplete;
  ASSERT_TRUE(google::protobuf::TextFormat::ParseFromString(R"pb(file {
                                                                   name: "a.proto"
                                                                   dependency: "b.proto"
                                                                   message_type { name: "A" }
                                                                 })pb",
                                                            &incomplete));
  EXPECT_THAT(error(incomplete.SerializeAsString(), "A"), HasSubstr("--include_imports"));
}

// Random bytes and cut messages: it ends, and what it writes is JSON.
TEST_F(PayloadSchemaTest, AnyBytesAreTakenOrRefused) {
  const std::string good = Bytes(
      "id: 5 status: PAID amount { value: 'x' inner { cents: 3 } } fees { cents: 1 } numbers: [1, "
      "2] "
      "at { seconds: 5 } note: 'n' tags { key: 1 value: 'v' } ratio: 1.5 limit { value: 3 }");
  const google::protobuf::LogSilencer silence;
  std::mt19937 random(7);
  int taken = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string bytes = good.substr(0, random() % (good.size() + 1));
    for (size_t flips = random() % 4; flips > 0 && !bytes.empty(); --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const std::string json = Json(bytes);
    if (json[0] == '!') continue;
    ++taken;
    JsonScanner scanner;
    if (!scanner.Scan(json)) {
      EXPECT_THAT(scanner.error(), HasSubstr("UTF-8")) << json;
    }
    // libprotobuf takes it, too; it is laxer where a field has another wire type.
    const auto message = NewMessage("shop.Order");
    EXPECT_TRUE(message->ParsePartialFromString(bytes) || !scanner.Scan(json)) << json;
  }
  EXPECT_GT(taken, 1000);
}

}  // namespace
}  // namespace icepie::slices
