/// Answers → bytes (RFC 9112 §4, RFC 9110 §8.6). Nothing an application passes can break the framing.
enum HTTP1Writer {
    /// What the request and the connection decide about the form of an answer.
    struct Form {
        var isHEAD = false
        var isHTTP10 = false
        var closes = false
    }

    static let continueLine = Array("HTTP/1.1 100 Continue\r\n\r\n".utf8)

    /// Appends the answer to `output`; `date` is a whole Date field. Returns how many fields had to be left
    /// out.
    @discardableResult
    static func append(
        _ response: HTTPResponse, _ form: Form, date: [UInt8], to output: inout [UInt8]
    ) -> Int {
        let status = 200...599 ~= response.status ? response.status : 500
        // RFC 9110 §8.6: no Content-Length in 204; RFC 9110 §15.4.5: a 304 has no content.
        let hasContent = status != 204 && status != 304
        // 256: the status line, Content-Length and Connection take less.
        var byteCount = 256 + date.count + (response.fields?.lines.count ?? 0)
        if hasContent, !form.isHEAD { byteCount += response.body.count }
        if let requestID = response.requestID { byteCount += requestID.utf8.count + 32 }
        var leftOut = 0
        for (name, value) in response.headers { byteCount += name.utf8.count + value.utf8.count + 4 }
        output.append(atMost: byteCount) { cursor in
            putStatusLine(status, to: &cursor)
            cursor.put(date)
            if let lines = response.fields?.lines { cursor.put(lines) }
            if let requestID = response.requestID {
                let id = requestID.utf8.span
                if id.firstOutsideFieldValue == nil {
                    cursor.put(constant: "X-Request-Id: ")
                    cursor.put(copying: id)
                    cursor.put(constant: "\r\n")
                } else {
                    leftOut += 1
                }
            }
            for (name, value) in response.headers {
                if isAllowed(name, value) { putField(name, value, to: &cursor) } else { leftOut += 1 }
            }
            if hasContent {
                cursor.put(constant: "Content-Length: ")
                cursor.put(decimal: response.body.count)
                cursor.put(constant: "\r\n")
            }
            if form.closes {
                cursor.put(constant: "Connection: close\r\n")
            } else if form.isHTTP10 {
                cursor.put(constant: "Connection: keep-alive\r\n")
            }
            cursor.put(constant: "\r\n")
            if hasContent, !form.isHEAD { cursor.put(response.body) }
        }
        return leftOut
    }

    static let requestIDName = "X-Request-Id"

    private static func putField(_ name: String, _ value: String, to cursor: inout ByteCursor) {
        cursor.put(name)
        cursor.put(constant: ": ")
        cursor.put(value)
        cursor.put(constant: "\r\n")
    }

    private static func putStatusLine(_ status: Int, to cursor: inout ByteCursor) {
        if status == 200 { return cursor.put(constant: "HTTP/1.1 200 OK\r\n") }
        cursor.put(constant: "HTTP/1.1 ")
        cursor.put(decimal: status)
        cursor.put(constant: " ")
        cursor.put(reasonPhrase(status))
        cursor.put(constant: "\r\n")
    }

    /// The field `Date: Sat, 21 Nov 2026 08:05:14 GMT CR LF` (RFC 9110 §5.6.7).
    static func dateField(secondsSince1970 seconds: Int64) -> [UInt8] {
        let bounded = min(max(seconds, 0), 253_402_300_799)  // to the end of year 9999
        let days = Int(bounded / 86_400)
        let time = Int(bounded % 86_400)
        let (year, month, day) = civil(days: days)
        let weekday = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"][days % 7]
        let name = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][
            month - 1]
        var field = Array("Date: \(weekday), ".utf8)
        appendTwoDigits(day, to: &field)
        field.append(" \(name) ")
        appendTwoDigits(year / 100, to: &field)
        appendTwoDigits(year % 100, to: &field)
        for (separator, number) in [(" ", time / 3_600), (":", time / 60 % 60), (":", time % 60)] {
            field.append(separator)
            appendTwoDigits(number, to: &field)
        }
        field.append(" GMT\r\n")
        return field
    }

    /// Days since 1970-01-01 → date, by H. Hinnant's `civil_from_days` for days ≥ 0.
    private static func civil(days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted % 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1_460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }

    private static func appendTwoDigits(_ number: Int, to output: inout [UInt8]) {
        output.append(0x30 + UInt8(number / 10 % 10))
        output.append(0x30 + UInt8(number % 10))
    }

    /// Whether the field may be sent: it is well-formed, and not one of the server's own.
    static func isAllowed(_ name: String, _ value: String) -> Bool {
        let name = name.utf8.span
        guard name.count > 0, isFieldValue(value) else { return false }
        for position in name.indices where !ASCII.isToken(name[position]) { return false }
        return switch name.count {
        case 4: !name.equalsIgnoringCase("date")
        case 10: !name.equalsIgnoringCase("connection")
        case 14: !name.equalsIgnoringCase("content-length")
        case 17: !name.equalsIgnoringCase("transfer-encoding")
        default: true
        }
    }

    private static func isFieldValue(_ value: String) -> Bool {
        value.utf8.span.firstOutsideFieldValue == nil
    }

    /// The phrase of RFC 9110 §15 and RFC 6585; by class for others.
    static func reasonPhrase(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 201: "Created"
        case 202: "Accepted"
        case 204: "No Content"
        case 301: "Moved Permanently"
        case 302: "Found"
        case 303: "See Other"
        case 304: "Not Modified"
        case 307: "Temporary Redirect"
        case 308: "Permanent Redirect"
        case 400: "Bad Request"
        case 401: "Unauthorized"
        case 403: "Forbidden"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 406: "Not Acceptable"
        case 408: "Request Timeout"
        case 409: "Conflict"
        case 410: "Gone"
        case 411: "Length Required"
        case 412: "Precondition Failed"
        case 413: "Content Too Large"
        case 414: "URI Too Long"
        case 415: "Unsupported Media Type"
        case 417: "Expectation Failed"
        case 422: "Unprocessable Content"
        case 429: "Too Many Requests"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        case 505: "HTTP Version Not Supported"
        case 507: "Insufficient Storage"
        case ..<300: "Success"
        case ..<400: "Redirection"
        case ..<500: "Client Error"
        default: "Server Error"
        }
    }
}
