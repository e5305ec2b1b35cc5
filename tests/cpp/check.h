// The few lines of a test framework that the C++ tests need: tests register themselves, main runs them all.
#pragma once
#include <cmath>
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

namespace check {

struct Test {
  const char* name;
  std::function<void()> body;
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Register {
  Register(const char* name, std::function<void()> body) { tests().push_back({name, std::move(body)}); }
};

inline void that(bool ok, const char* text, const char* file, int line) {
  if (ok) return;
  ++failures();
  std::printf("%s:%d: failed: %s\n", file, line, text);
}

// The message of the Error that `body` throws, or an empty text.
template <class Error>
std::string message(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

inline int run() {
  for (const Test& test : tests()) {
    const int before = failures();
    try {
      test.body();
    } catch (const std::exception& error) {
      ++failures();
      std::printf("%s: threw %s\n", test.name, error.what());
    }
    std::printf("%s %s\n", failures() == before ? "ok    " : "FAILED", test.name);
  }
  return failures() ? 1 : 0;
}

}  // namespace check

#define CHECK(condition) check::that((condition), #condition, __FILE__, __LINE__)
#define TEST(name)                                           \
  static void name();                                        \
  static const check::Register register_##name(#name, name); \
  static void name()
