"""The one table of words for people: every reason, state, status, priority, role … in Vietnamese and in English.

The words of QĐ 28/2018 come first, edXML's in brackets, ours last. Four traps: "trả lại" and "từ chối" are the receiver's acts
(status 02), never a node's; "đã nhận" alone reads as "the receiver has it"; "thời hạn" is the handling term. A test fails where
a word is missing or a trap is stepped in. Knows `errors` only.

A sentence is a template: `{element}`, `{value}` and `{rule}` are the refusal's fields; a part in square brackets is left out
where one of its fields is empty, and `[this|that]` then says that instead.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Literal

from node.core.errors import Reason, Refused

Lang = Literal["vi", "en"]
LANGUAGES: tuple[Lang, ...] = ("vi", "en")

Pair = tuple[str, str]
"""Vietnamese, English."""

SENTENCES: Mapping[Reason, Pair] = {
    # the package
    Reason.XML_MALFORMED: (
        "Gói tin sai cú pháp XML[ ở {element}][: {value}][ ({rule})].",
        "The package is not well-formed XML[ at {element}][: {value}][ ({rule})].",
    ),
    Reason.XML_DOCTYPE: (
        "Gói tin có khai báo DOCTYPE hoặc thực thể (entity)[ “{value}”], là điều không được phép[ ({rule})].",
        "The package declares a DOCTYPE or an entity[ “{value}”], which is not allowed[ ({rule})].",
    ),
    Reason.XML_TOO_DEEP: (
        "Các phần tử XML của gói tin lồng nhau quá sâu[, ở {element}][: {value}][ (giới hạn {rule})].",
        "The package's XML elements are nested too deep[, at {element}][: {value}][ (limit {rule})].",
    ),
    Reason.NOT_EDXML: (
        "Tệp gửi lên không phải gói tin edXML[: {element} là “{value}”][ (cần {rule})].",
        "The file is not an edXML package[: {element} is “{value}”][ (expected {rule})].",
    ),
    Reason.PACKAGE_EMPTY: (
        "Gói tin rỗng; hãy kiểm tra tệp và gửi lại.",
        "The package is empty; check the file and send it again.",
    ),
    Reason.PACKAGE_TOO_LARGE: (
        "Gói tin quá lớn[: {value}][ (giới hạn {rule} byte)].",
        "The package is too large[: {value}][ (limit {rule} bytes)].",
    ),
    Reason.VALUE_TOO_LONG: (
        "Giá trị[ của {element}] quá dài[: “{value}”][ (giới hạn {rule} ký tự)].",
        "The value[ of {element}] is too long[: “{value}”][ (limit {rule} characters)].",
    ),
    Reason.TOO_MANY_ELEMENTS: (
        "Gói tin có quá nhiều phần tử[ {element}][: {value}][ (giới hạn {rule})].",
        "The package has too many elements[ {element}][: {value}][ (limit {rule})].",
    ),
    Reason.BASE64_BROKEN: (
        "Nội dung base64 của tài liệu gửi kèm bị hỏng[, ở {element}][: “{value}”][ ({rule})].",
        "The base64 content of an attachment is broken[, at {element}][: “{value}”][ ({rule})].",
    ),
    Reason.ARCHIVE_BOMB: (
        "Tài liệu gửi kèm là tệp nén vượt giới hạn giải nén[, ở {element}][: “{value}”][ (giới hạn {rule})].",
        "An attachment is an archive beyond the unpacking limit[, at {element}][: “{value}”][ (limit {rule})].",
    ),
    Reason.ELEMENT_MISSING: (
        "Gói tin thiếu phần tử bắt buộc[ {element}][: “{value}”][ ({rule})].",
        "The package lacks the required element[ {element}][: “{value}”][ ({rule})].",
    ),
    Reason.STATUS_CODE_UNKNOWN: (
        "Mã trạng thái xử lý[ “{value}”][ ở {element}] không có trong danh mục[ (dùng {rule})].",
        "Status code[ “{value}”][ in {element}] is not one of the known codes[ (use {rule})].",
    ),
    Reason.DIGEST_MISMATCH: (
        "Mã băm SHA-256 của gói tin không khớp với giá trị đã khai"
        "[ ở {element}][: “{value}”][ ({rule})]; hãy kiểm tra tệp và gửi lại.",
        "The SHA-256 of the package is not the one declared"
        "[ in {element}][: “{value}”][ ({rule})]; check the file and send it again.",
    ),
    # codes
    Reason.CODE_EMPTY: (
        "Mã định danh cơ quan, tổ chức[ ở {element}] bị bỏ trống.",
        "The organisation code[ in {element}] is empty.",
    ),
    Reason.CODE_PLACEHOLDER: (
        "[“{value}”|Giá trị][ ở {element}] không phải là mã định danh cơ quan, tổ chức[ ({rule})].",
        "[“{value}”|The value][ in {element}] is not an organisation code[ ({rule})].",
    ),
    Reason.CODE_TOO_LONG: (
        "Mã định danh[ “{value}”][ ở {element}] quá dài[ (giới hạn {rule} ký tự)].",
        "The organisation code[ “{value}”][ in {element}] is too long[ (limit {rule} characters)].",
    ),
    Reason.CODE_BAD_CHARACTER: (
        "Mã định danh[ “{value}”][ ở {element}] có ký tự không được dùng[ (chỉ dùng {rule})].",
        "The organisation code[ “{value}”][ in {element}] has a character that is not allowed[ (only {rule})].",
    ),
    Reason.CODE_BAD_GROUP: (
        "Mã định danh[ “{value}”][ ở {element}] có nhóm sai quy tắc[ ({rule})].",
        "The organisation code[ “{value}”][ in {element}] has a group that breaks the rule[ ({rule})].",
    ),
    # receivers
    Reason.RECIPIENT_UNKNOWN: (
        "Mã Bên nhận[ “{value}”] không có trong danh mục mã định danh[ ({rule})]; hãy kiểm tra lại mã.",
        "The recipient's code[ “{value}”] is not in the directory[ ({rule})]; check the code.",
    ),
    Reason.DIRECTORY_OUTSIDE: (
        "Mã[ {value}] không do nút này quản lý[; hãy làm việc này tại nút {rule}].",
        "Code[ {value}] is not administered by this node[; do this at node {rule}].",
    ),
    Reason.DIRECTORY_LAW: (
        "Danh mục sẽ trái quy tắc nếu ghi như vậy[: {value}][ (số chỗ trái: {rule})].",
        "The directory would break a rule[: {value}][ (places: {rule})].",
    ),
    Reason.RECIPIENT_CLOSED: (
        "Mã[ {value}] đã đóng; [hãy gửi đến mã thay thế {rule}|danh mục chưa ghi mã thay thế, hãy hỏi lại Bên nhận].",
        "Code[ {value}] is closed; [send to its successor {rule}|the directory names no successor, ask the recipient].",
    ),
    Reason.RECIPIENT_LOCKED: (
        "Mã[ {value}] đang tạm khóa nên không gửi được[ ({rule})]; hãy liên hệ Bên nhận hoặc gửi lại sau.",
        "Code[ {value}] is locked, so nothing can be sent to it[ ({rule})]; ask the recipient or send again later.",
    ),
    Reason.RECIPIENT_NOT_CONNECTED: (
        "Mã[ {value}] chưa kết nối và không có cơ quan cấp trên nhận thay; hãy gửi văn bản giấy (QĐ 28/2018/QĐ-TTg, Điều 7.1).",
        "Code[ {value}] is not connected and no superior receives for it; send it on paper (QĐ 28/2018/QĐ-TTg, Article 7.1).",
    ),
    Reason.NO_RECIPIENT: (
        "Gói tin không còn Bên nhận nào gửi đến được[: “{value}”].[ {rule}]",
        "The package has no recipient that can be reached[: “{value}”].[ {rule}]",
    ),
    Reason.ALL_OR_NOTHING: (
        "Có Bên nhận không gửi đến được[: “{value}”]; hệ thống đã đăng ký chỉ gửi khi gửi được đến tất cả,"
        " nên chưa gửi cho Bên nhận nào.[ {rule}]",
        "A recipient cannot be reached[: “{value}”]; this system is registered to send to all or none,"
        " so nothing was sent.[ {rule}]",
    ),
    Reason.STATUS_TARGET_UNKNOWN: (
        "Không tìm thấy văn bản mà trạng thái xử lý này trả lời[: {element} “{value}”].",
        "The document this status answers was not found[: {element} “{value}”].",
    ),
    # senders and systems
    Reason.SENDER_UNKNOWN: (
        "Mã Bên gửi[ “{value}”] không có trong danh mục mã định danh[ ({rule})].",
        "The sender's code[ “{value}”] is not in the directory[ ({rule})].",
    ),
    Reason.SENDER_NOT_ALLOWED: (
        "Hệ thống này không được gửi bằng mã Bên gửi[ “{value}”][ (chỉ được dùng {rule})].",
        "This system may not send as[ “{value}”][ (only as {rule})].",
    ),
    Reason.SYSTEM_UNKNOWN: (
        "Hệ thống[ “{value}”] chưa được đăng ký tại nút này; hãy liên hệ người vận hành nút.",
        "The system[ “{value}”] is not registered at this node; ask the node's operator.",
    ),
    Reason.SYSTEM_DISABLED: (
        "Hệ thống[ “{value}”] đã ngừng được sử dụng tại nút này; hãy liên hệ người vận hành nút.",
        "The system[ “{value}”] is disabled at this node; ask the node's operator.",
    ),
    Reason.NETWORK_FORBIDDEN: (
        "Hệ thống không được gọi từ địa chỉ mạng này[: {value}][ (chỉ từ {rule})]; hãy liên hệ người vận hành nút.",
        "The system may not call from this network address[: {value}][ (only from {rule})]; ask the node's operator.",
    ),
    Reason.CLIENT_CERTIFICATE_MISSING: (
        "Hệ thống này phải trình chứng thư số đã đăng ký khi nối tới nút; hãy cài chứng thư đó vào phần kết nối rồi nối lại.",
        "The system must show its registered certificate when it connects; give it to the connector and connect again.",
    ),
    Reason.CLIENT_CERTIFICATE_UNKNOWN: (
        "Chứng thư số đã trình không phải của hệ thống này[: {value}]; hãy liên hệ người vận hành nút.",
        "The certificate that was shown is not this system's[: {value}]; ask the node's operator.",
    ),
    Reason.CLIENT_CERTIFICATE_DATES: (
        "Chứng thư số của hệ thống chưa có hoặc đã hết hiệu lực[: {value}]; hãy đưa chứng thư mới cho người vận hành nút.",
        "The system's certificate is not valid yet or no longer[: {value}]; give the node's operator a new one.",
    ),
    Reason.CLIENT_CERTIFICATE_REVOKED: (
        "Chứng thư số của hệ thống đã bị thu hồi[: {value}]; hãy liên hệ người vận hành nút.",
        "The system's certificate has been revoked[: {value}]; ask the node's operator.",
    ),
    Reason.CREDENTIALS_WRONG: (
        "Mã hệ thống hoặc khóa bí mật không đúng[, ở {element}]; hãy kiểm tra lại hoặc liên hệ người vận hành nút.",
        "The system id or its secret is wrong[, in {element}]; check them or ask the node's operator.",
    ),
    Reason.SIGNATURE_WRONG: (
        "Chữ ký HMAC của yêu cầu không đúng[, ở {element}]; hãy kiểm tra mã hệ thống và khóa bí mật.",
        "The request's HMAC is wrong[, in {element}]; check the system id and its secret.",
    ),
    Reason.SIGNATURE_TEXT_DAMAGED: (
        "Phần được ký của yêu cầu bị hỏng[, ở {element}][: “{value}”]; mã, định danh và từ trạng thái chỉ được dùng ký tự ASCII.",
        "The signed text of the request is damaged[, in {element}][: “{value}”]; ids, codes and status words must be ASCII.",
    ),
    Reason.SIGNATURE_MISSING: (
        "Yêu cầu thiếu tiêu đề[ {element}] để xác thực.",
        "The request lacks the header[ {element}] that authenticates it.",
    ),
    Reason.HEADER_MISMATCH: (
        "Tiêu đề[ {element}][ (“{value}”)] khác với giá trị đã ký[ (“{rule}”)].",
        "Header[ {element}][ (“{value}”)] differs from the signed value[ (“{rule}”)].",
    ),
    Reason.SERVICE_UNKNOWN: (
        "Nút này không phục vụ loại dịch vụ được yêu cầu[: “{value}”][ (chỉ nhận {rule})].",
        "This node does not serve the service type asked for[: “{value}”][ (only {rule})].",
    ),
    Reason.OPERATION_UNKNOWN: (
        "Không có thao tác này[: “{value}”][ (dùng {rule})].",
        "There is no such operation[: “{value}”][ (use {rule})].",
    ),
    Reason.REQUEST_MALFORMED: (
        "Yêu cầu sai dạng[, ở {element}][: “{value}”][ (cần {rule})].",
        "The request is malformed[, at {element}][: “{value}”][ (expected {rule})].",
    ),
    Reason.DOC_UNKNOWN: (
        "Hệ thống này không có văn bản mang mã đã nêu[: “{value}”].",
        "This system has no document with the id given[: “{value}”].",
    ),
    Reason.DOC_AMBIGUOUS: (
        "Yêu cầu nêu hai mã văn bản khác nhau[: “{value}”][ và “{rule}”]; hãy chỉ nêu một mã.",
        "The request names two different document ids[: “{value}”][ and “{rule}”]; name one.",
    ),
    Reason.STATUS_WORD_UNKNOWN: (
        "Không có từ trạng thái này[: “{value}”][ (dùng {rule})].",
        "There is no such status word[: “{value}”][ (use {rule})].",
    ),
    # the link
    Reason.WIRE_MALFORMED: (
        "Dữ liệu giữa hai nút sai dạng[, ở {element}][: “{value}”][ ({rule})].",
        "The data between two nodes is malformed[, at {element}][: “{value}”][ ({rule})].",
    ),
    Reason.WIRE_TOO_LARGE: (
        "Dữ liệu giữa hai nút quá lớn[, ở {element}][: {value}][ (giới hạn {rule})].",
        "The data between two nodes is too large[, at {element}][: {value}][ (limit {rule})].",
    ),
    Reason.PEER_UNKNOWN: (
        "Nút gọi đến[ “{value}”] không phải là nút liền kề đã đăng ký[ ({rule})].",
        "The calling node[ “{value}”] is not a registered neighbour[ ({rule})].",
    ),
    Reason.PEER_NAME: (
        "Tên trong chứng thư số của nút không đúng[: “{value}”][ (cần {rule})].",
        "The name in the node's certificate is wrong[: “{value}”][ (expected {rule})].",
    ),
    Reason.PEER_KEY: (
        "Khóa của nút[ “{value}”] không phải là khóa đã đăng ký[ ({rule})].",
        "The key of node[ “{value}”] is not the registered one[ ({rule})].",
    ),
    Reason.PEER_DATES: (
        "Chứng thư số của nút[ “{value}”] chưa có hiệu lực hoặc đã hết hiệu lực[ ({rule})].",
        "The certificate of node[ “{value}”] is not yet or no longer valid[ ({rule})].",
    ),
    Reason.PEER_REVOKED: (
        "Chứng thư số của nút, hoặc của nơi cấp chứng thư đó, đã bị thu hồi[ (số hiệu {value})].",
        "The node's certificate, or that of the authority above it, has been revoked[ (serial {value})].",
    ),
    Reason.PEER_LIST_OLD: (
        "Danh sách thu hồi chứng thư đang giữ đã quá cũ để xét nút này.",
        "The revocation list held is too old to judge this node by.",
    ),
    Reason.INVITE_MALFORMED: (
        "Mã mời bị cắt cụt hoặc gõ sai[ (bắt đầu bằng {rule})].",
        "The invitation token is cut short or mistyped[ (it begins with {rule})].",
    ),
    Reason.INVITE_UNKNOWN: (
        "Nút cấp trên không có lời mời nào ứng với mã mời này.",
        "The parent has no invitation for this token.",
    ),
    Reason.INVITE_EXPIRED: (
        "Mã mời[ của {value}] đã hết hạn.",
        "The invitation token[ of {value}] has expired.",
    ),
    Reason.INVITE_USED: (
        "Mã mời[ của {value}] đã được một khóa khác dùng.",
        "The invitation token[ of {value}] was used by another key.",
    ),
    Reason.PEER_REGISTERED: (
        "Mã[ {value}] đã có nút đăng ký.",
        "A node is registered under[ {value}] already.",
    ),
    Reason.SENDER_OUTSIDE: (
        "Mã Bên gửi[ “{value}”] không thuộc phạm vi của nút đã chuyển đến[ ({rule})].",
        "The sender's code[ “{value}”] lies outside the node that presented it[ ({rule})].",
    ),
    Reason.ORIGIN_SIGNATURE: (
        "Không xác thực được chữ ký của nút gốc trên bì[ ({element})][: “{value}”][ ({rule})].",
        "The origin node's signature on the envelope could not be verified[ ({element})][: “{value}”][ ({rule})].",
    ),
    Reason.DIGEST_CONFLICT: (
        "Một bì mang mã đã có nhưng nội dung khác[: “{value}”]; người vận hành cần kiểm tra.",
        "An envelope carries a known id with another content[: “{value}”]; an operator must look.",
    ),
    Reason.TOO_MANY_HOPS: (
        "Văn bản đã đi qua quá nhiều nút[: {value}][ (giới hạn {rule})]; người vận hành cần kiểm tra đường đi.",
        "The document has passed too many nodes[: {value}][ (limit {rule})]; an operator must check the route.",
    ),
    Reason.LOOP: (
        "Đường đi của văn bản bị lặp vòng[ tại nút “{value}”]; người vận hành cần kiểm tra đường đi.",
        "The document's route loops[ at node “{value}”]; an operator must check the route.",
    ),
    Reason.LIFETIME: (
        "Hạn chuyển của bì xa hơn mức cho phép[: {value}][ (giới hạn {rule})].",
        "The envelope's lifetime reaches further than allowed[: {value}][ (limit {rule})].",
    ),
    Reason.BODY_UNKNOWN: (
        "Nút không có phần nội dung được hỏi[: “{value}”].",
        "The node does not have the content asked for[: “{value}”].",
    ),
    Reason.BODY_DAMAGED: (
        "Phần nội dung không khớp với mã băm của nó[: “{value}”][ ({rule})].",
        "The content does not match its digest[: “{value}”][ ({rule})].",
    ),
    # how a delivery may end after custody was taken
    Reason.EXPIRED: (
        "Không chuyển được, quá hạn chuyển[ ({value})][; {rule}].",
        "Not delivered: the lifetime is over[ ({value})][; {rule}].",
    ),
    Reason.DROPPED_BY_OPERATOR: (
        "Người vận hành nút đã dừng việc chuyển[: {value}][ ({rule})].",
        "The node's operator has ended the transfer[: {value}][ ({rule})].",
    ),
    # the node itself
    Reason.NOT_NOW: (
        "Nút chưa phục vụ được ngay lúc này; hãy thử lại sau.",
        "The node cannot serve right now; try again later.",
    ),
    Reason.DISK_FULL: (
        "Nút gần hết dung lượng lưu trữ nên tạm thời không nhận thêm; hãy thử lại sau.",
        "The node is short of disk space and takes nothing more for now; try again later.",
    ),
    Reason.INTERNAL: (
        "Nút gặp lỗi bên trong; hãy thử lại sau, nếu còn lỗi thì liên hệ người vận hành nút.",
        "The node met an internal fault; try again later, and call the node's operator if it stays.",
    ),
}
"""What is said to the person whose package or request was not accepted."""

LABELS: Mapping[str, Mapping[str, Pair]] = {
    "transport": {  # trạng thái gửi, nhận: QĐ 28/2018 Điều 6.3
        "queued": ("chờ chuyển", "queued"),
        "moving": ("đang chuyển", "moving"),
        "in-mailbox": ("đã về nút của Bên nhận, chờ lấy", "at the recipient's node, to be collected"),
        "collected": ("Bên nhận đã lấy về", "collected by the recipient"),
        "refused": ("không gửi được", "could not be sent"),
        "expired": ("không chuyển được, quá hạn chuyển", "not delivered, lifetime over"),
        "stopped": ("đã dừng do thu hồi", "stopped by recall"),
        "held": ("tạm dừng, chờ người vận hành", "held for an operator"),
    },
    "mailbox": {  # the transport words of updateStatus, as a received list shows them
        "initial": ("chờ lấy", "to be collected"),
        "processing": ("đang lấy về", "being collected"),
        "done": ("đã lấy về", "collected"),
        "fail": ("lấy về bị lỗi", "collecting failed"),
    },
    "status": {  # trạng thái xử lý: QĐ 28/2018 Điều 10.2.h, edXML's word where it differs
        "01": ("đã đến", "arrived"),
        "02": ("từ chối nhận (trả lại)", "rejected (returned)"),
        "03": ("đã tiếp nhận", "accepted"),
        "04": ("đã chuyển xử lý (phân công)", "assigned"),
        "05": ("đang xử lý", "being handled"),
        "06": ("đã hoàn thành", "finished"),
        "13": ("yêu cầu lấy lại", "take-back requested"),
        "15": ("đồng ý cập nhật/lấy lại", "change or take-back agreed"),
        "16": ("từ chối cập nhật/lấy lại", "change or take-back rejected"),
    },
    "flag": {  # what is remarkable about an office status
        "unmatched": ("chưa khớp văn bản nào", "joins no document"),
        "repeated": ("lặp lại", "repeated"),
        "out-of-order": ("sai thứ tự", "out of order"),
    },
    "priority": {  # mức độ khẩn: QĐ 28/2018 Điều 10.2.k; 4 only as received
        "0": ("thường", "normal"),
        "1": ("khẩn", "urgent"),
        "2": ("thượng khẩn", "very urgent"),
        "3": ("hỏa tốc", "express"),
        "4": ("hỏa tốc hẹn giờ", "express, timed"),
    },
    "business": {
        "0": ("văn bản mới", "new"),
        "1": ("thu hồi", "recall"),
        "2": ("cập nhật", "update"),
        "3": ("thay thế", "replace"),
    },
    "lane": {  # luồng
        "control": ("điều khiển, trạng thái, thu hồi", "control, statuses, recalls"),
        "express": ("hỏa tốc", "express"),
        "very_urgent": ("thượng khẩn", "very urgent"),
        "urgent": ("khẩn", "urgent"),
        "normal": ("thường", "normal"),
    },
    "outbox": {  # how a row of the outbox stands
        "waiting": ("chờ chuyển", "waiting"),
        "body": ("đang chuyển nội dung", "content on its way"),
        "held": ("tạm dừng, chờ người vận hành", "held for an operator"),
    },
    "hold": {  # why something waits for a person, beside the reasons
        "office-fail": (
            "hệ thống của Bên nhận nhiều lần báo lấy về bị lỗi",
            "the recipient's system keeps failing to collect it",
        ),
        "register": ("yêu cầu đăng ký mã định danh", "request to register a code"),
        "delete": ("yêu cầu đóng mã định danh", "request to close a code"),
        "operator": ("người vận hành tạm dừng", "held by an operator"),
        "neighbour-gone": (
            "nút liền kề có thể đang giữ một bản nhưng không còn trong danh bạ",
            "a neighbour that is gone from the directory may have it",
        ),
    },
    "kind": {
        "edoc": ("văn bản điện tử", "document"),
        "status": ("trạng thái xử lý", "status"),
        "notice": ("thông báo giữa các nút", "notice between nodes"),
    },
    "connection": {  # QĐ 28/2018 Điều 21.1
        "chua-ket-noi": ("chưa kết nối", "not connected"),
        "thu-nghiem": ("thử nghiệm", "trial"),
        "chinh-thuc": ("chính thức", "official"),
        "tam-khoa": ("tạm khóa", "locked"),
        "da-dong": ("đã đóng", "closed"),
    },
    "flaw": {  # what was missing or odd in a package that was taken: QĐ 28/2018 Điều 10.2, VPCP 11796 1.g
        "archive-damaged": ("tệp nén hỏng", "damaged archive"),
        "archive-encrypted": ("tệp nén có mật khẩu", "encrypted archive"),
        "archive-unknown-method": ("tệp nén kiểu lạ", "archive of an unknown method"),
        "attachment-empty": ("tệp kèm rỗng", "empty attachment"),
        "attachment-missing": ("thiếu tệp kèm đã nêu", "attachment named and not there"),
        "attachment-unlisted": ("tệp kèm không được nêu", "attachment not named"),
        "attachment-without-content": ("tệp kèm không có nội dung", "attachment without content"),
        "business-missing": ("không ghi loại nghiệp vụ", "no business type"),
        "business-unknown": ("loại nghiệp vụ lạ", "unknown business type"),
        "code-missing": ("không có số, ký hiệu", "no number and notation"),
        "content-type-contradicts": ("kiểu tệp ghi sai", "content type that contradicts"),
        "date-impossible": ("ngày văn bản không có thật", "impossible date"),
        "date-missing": ("không có ngày văn bản", "no date"),
        "document-id-missing": ("không có mã định danh văn bản", "no DocumentId"),
        "element-repeated": ("phần tử lặp lại", "repeated element"),
        "encoding-not-utf-8": ("bảng mã không phải UTF-8", "not UTF-8"),
        "namespace-missing": ("thiếu không gian tên edXML", "no edXML namespace"),
        "namespace-other": ("không gian tên khác edXML", "another namespace"),
        "number-not-digits": ("số văn bản không phải chữ số", "number that is no number"),
        "payload-damaged-as-text": ("tệp kèm hỏng do xử lý như chữ", "attachment damaged as text"),
        "placeholder-value": ("giá trị giữ chỗ như null, N/A", "placeholder value"),
        "priority-unknown": ("mức độ khẩn lạ", "unknown priority"),
        "reference-empty": ("mục kê tệp kèm rỗng", "empty reference"),
        "response-for-empty": ("văn bản được trả lời bỏ trống", "empty ResponseFor"),
        "response-for-swapped": ("mã và số của văn bản được trả lời đổi chỗ", "ResponseFor swapped"),
        "root-envelope": ("gốc là edXMLEnvelope", "root is edXMLEnvelope"),
        "sender-is-recipient": ("tự gửi cho mình", "sender among recipients"),
        "sender-name-missing": ("không có tên Bên gửi", "no sender name"),
        "status-code-empty": ("mã trạng thái bỏ trống", "empty status code"),
        "subject-missing": ("không có trích yếu", "no subject"),
        "to-without-code": ("Bên nhận không có mã", "recipient without a code"),
        "trace-missing": ("không có lịch sử gửi, nhận", "no trace"),
        "trace-without-organ": ("lịch sử gửi, nhận thiếu mã cơ quan", "trace without organ"),
        "trace-without-time": ("lịch sử gửi, nhận thiếu thời gian", "trace without time"),
        "type-missing": ("không ghi loại văn bản", "no document type"),
    },
    "fate": {  # why a code was closed
        "gop": ("gộp vào", "merged"),
        "tach": ("tách thành", "split"),
        "doi-ten": ("đổi tên", "renamed"),
        "chuyen": ("chuyển", "moved"),
    },
    "role": {  # NĐ 30/2020 Điều 3.17, Phụ lục VI; QĐ 28/2018 Điều 13.1
        "clerk": ("văn thư", "clerk"),
        "operator": ("người vận hành", "operator"),
        "administrator": ("người quản trị", "administrator"),
        "registrar": ("người quản lý mã định danh", "keeper of codes"),
        "reporter": ("người tổng hợp báo cáo", "report maker"),
        "inspector": ("người kiểm tra (chỉ xem)", "inspector (read only)"),
        "owner": ("chủ quản hệ thống thông tin", "owner of the system"),
    },
    "outcome": {  # a verdict between nodes
        "taken": ("đã nhận bàn giao", "taken"),
        "need": ("cần thêm nội dung", "content needed"),
        "refused": ("không gửi được", "refused"),
        "later": ("đang chậm, thử lại sau", "deferred, to be tried again"),
    },
    "event": {  # lines of the history of a document at a node
        "accepted": ("nút tiếp nhận từ hệ thống của Bên gửi", "accepted from the sender's system"),
        "taken": ("nút nhận bàn giao từ nút liền kề", "taken over from a neighbour"),
        "queued": ("xếp lại vào hàng chờ chuyển, theo đường khác", "queued again, another way"),
        "handed-over": ("đã bàn giao cho nút liền kề", "handed over to a neighbour"),
        "in-mailbox": ("đã về nút của Bên nhận, chờ lấy", "in the recipient's mailbox"),
        "fetched": ("hệ thống của Bên nhận tải về", "fetched by the recipient's system"),
        "collected": ("Bên nhận đã lấy về", "collected by the recipient"),
        "failed": ("Bên nhận báo lấy về bị lỗi", "the recipient reported a failed collection"),
        "refused": ("không gửi được", "could not be sent"),
        "refused-at-door": ("không gửi được, báo ngay cho Bên gửi", "could not be sent, told at once"),
        "expired": ("không chuyển được, quá hạn chuyển", "lifetime over"),
        "stopped": ("đã dừng do thu hồi", "stopped by recall"),
        "held": ("tạm dừng, chờ người vận hành", "held for an operator"),
        "released": ("người vận hành cho chuyển tiếp", "released by an operator"),
        "directory": ("danh mục mã định danh thay đổi", "the directory changed"),
        "act": ("việc của người quản trị", "act of a person"),
        "head-kept": ("giữ đầu nhật ký của nút cấp dưới", "kept the head of a journal below"),
        "come-back": ("quay về", "came back"),
        "statement-refused": ("không nhận bảng kê số liệu ngày", "daily statement not kept"),
        "statement-departed": (
            "bỏ bảng kê chưa chốt của đơn vị đã chuyển đi",
            "open statement of a unit that hangs elsewhere now left out",
        ),
        "repeated": ("nhận được lần nữa, không xử lý lại", "seen again, nothing done"),
        "notice": ("thông báo về cho nút gốc", "notice sent home"),
        "status": ("trạng thái xử lý của Bên nhận", "status from the recipient"),
        "unmatched": ("trạng thái xử lý chưa khớp văn bản nào", "status that joins no document"),
        "not-counted": ("không tính vào số liệu: bì không đọc được", "not counted: the envelope cannot be read"),
        "digest-conflict": ("trùng mã bì nhưng khác nội dung", "known id with another content"),
        "agency-request": ("yêu cầu về mã định danh", "request about a code"),
    },
    "health": {
        "ok": ("hoạt động bình thường", "is well"),
        "warning": ("đang hoạt động, có điều cần chú ý", "is working, with something to look at"),
        "critical": ("đang gặp sự cố, cần xử lý ngay", "is in trouble and needs you now"),
    },
    "check": {  # the lines of /readyz
        "database": ("cơ sở dữ liệu", "database"),
        "writer": ("bộ ghi cơ sở dữ liệu", "database writer"),
        "disk": ("dung lượng lưu trữ", "disk space"),
        "bodies": ("thư mục nội dung gói tin", "body folder"),
        "parent": ("kết nối lên nút cấp trên", "parent"),
        "children": ("kết nối xuống các nút cấp dưới", "children"),
        "link": ("cổng giữa các nút", "link listener"),
        "office": ("cổng cho hệ thống của cơ quan", "office listener"),
        "outbox": ("hàng chờ chuyển", "outbox"),
        "mailbox": ("hộp văn bản chờ lấy", "mailbox"),
        "held": ("mục tạm dừng", "held items"),
        "journal": ("nhật ký hệ thống", "journal"),
        "systems": ("tệp đăng ký hệ thống", "registered systems"),
        "directory": ("danh mục mã định danh", "directory"),
        "certificate": ("chứng thư số", "certificate"),
        "lists": ("danh sách thu hồi chứng thư", "revocation lists"),
        "clock": ("đồng hồ", "clock"),
        "calendar": ("lịch làm việc", "working calendar"),
        "stopping": ("nút đang dừng", "stopping"),
    },
    "clock": {  # states of the node's clock
        "root": ("giờ gốc, theo đồng hồ máy", "the reference: this host's clock"),
        "host": ("theo đồng hồ máy", "by the host's clock"),
        "synchronised": ("đồng bộ với nút cấp trên", "synchronised with the parent"),
        "holdover": ("giữ giờ, tạm không hỏi được nút cấp trên", "holding over without the parent"),
        "unsynchronised": ("chưa đồng bộ", "not synchronised"),
    },
    "problem": {  # what `truc status` and the metrics may complain of
        "parent-down": ("mất kết nối lên nút cấp trên", "the parent cannot be reached"),
        "child-silent": ("nút cấp dưới im lặng", "a child is silent"),
        "outbox-old": ("hàng chờ chuyển có mục chờ quá lâu", "the outbox holds something old"),
        "held-items": ("có mục tạm dừng, chờ người vận hành", "items are held for an operator"),
        "unmatched-statuses": ("có trạng thái xử lý chưa khớp văn bản nào", "statuses that join no document"),
        "digest-conflict": ("có bì trùng mã nhưng khác nội dung", "an id was seen with two contents"),
        "journal-broken": ("nhật ký hệ thống có hàng bị sửa hoặc bị mất", "a row of the journal was altered or is missing"),
        "disk-low": ("sắp hết dung lượng lưu trữ", "the disk is nearly full"),
        "calendar-missing": (
            "chưa có lịch làm việc của năm này hoặc năm tới",
            "a working calendar is missing for this or the next year",
        ),
        "office-clock": ("giờ của một hệ thống lệch với giờ của nút", "an office system's clock is off the node's time"),
        "clock-unsynchronised": ("đồng hồ chưa đồng bộ", "the clock is not synchronised"),
        "clock-step": ("đồng hồ máy vừa bị chỉnh", "the host's clock was set"),
        "clock-zone": ("đồng hồ máy lệch tròn giờ, có thể sai múi giờ", "the host's clock is whole hours off: a wrong zone?"),
        "clock-skew": ("đồng hồ máy sai quá giới hạn đã khai", "the host's clock is off by more than stated"),
        "clock-drift": ("đồng hồ máy chạy nhanh hoặc chậm quá mức", "the host's clock drifts"),
        "clock-parent-silent": ("nút cấp trên không trả lời khi hỏi giờ", "the parent does not tell the time"),
        "clock-parent-wrong": (
            "giờ của nút cấp trên không đáng tin: chưa đồng bộ hoặc vừa nhảy",
            "the parent's time cannot be trusted: unsynchronised, or it jumped",
        ),
        "clock-parent-old": ("nút cấp trên bản cũ, chưa cho hỏi giờ", "the parent's version cannot tell the time"),
        "clock-ahead": (
            "giờ đã ghi trước khi khởi động lại ở quá xa phía trước",
            "an instant recorded before the restart lies far ahead",
        ),
        "certificate-revoked": ("chứng thư số của nút này đã bị thu hồi", "this node's certificate has been revoked"),
        "lists-old": (
            "danh sách thu hồi chứng thư đã cũ, chưa nhận được bản mới",
            "a revocation list is past its end and no newer one has come",
        ),
        "certificate-expiring": ("chứng thư số sắp hết hiệu lực", "a certificate expires soon"),
        "certificate-expired": ("chứng thư số đã hết hiệu lực", "a certificate has expired"),
        "directory-stale": (
            "danh mục đã lâu chưa so với nút cấp trên, vẫn chuyển theo bản đang có",
            "the directory was not compared with the parent's for long; it is used all the same",
        ),
        "directory-forked": (
            "có nút ký hai thay đổi danh mục trái nhau, giữ bản đến trước",
            "a node signed two changes of the directory that exclude each other; the first stays",
        ),
        "directory-aside": (
            "có nút khai danh mục ngoài phạm vi của mình, không dùng",
            "a node says of the directory what it has no say in; not used",
        ),
        "system-certificate": (
            "chứng thư số của một hệ thống sắp hết hoặc đã hết hiệu lực",
            "an office system's certificate ends soon or has ended",
        ),
        "systems-broken": (
            "tệp đăng ký hệ thống bị lỗi, đang dùng bản tốt trước đó",
            "the systems file is broken; the last good one is used",
        ),
        "stopping": ("nút đang dừng", "the node is stopping"),
    },
    "reason": {  # short forms, for tables; whole sentences stand in SENTENCES
        "xml-malformed": ("sai cú pháp XML", "not well-formed"),
        "xml-doctype": ("có DOCTYPE hoặc thực thể", "DOCTYPE or entity"),
        "xml-too-deep": ("XML lồng quá sâu", "XML too deep"),
        "not-edxml": ("không phải gói tin edXML", "not edXML"),
        "package-empty": ("gói tin rỗng", "empty package"),
        "package-too-large": ("gói tin quá lớn", "package too large"),
        "value-too-long": ("giá trị quá dài", "value too long"),
        "too-many-elements": ("quá nhiều phần tử", "too many elements"),
        "base64-broken": ("base64 bị hỏng", "broken base64"),
        "archive-bomb": ("tệp nén vượt giới hạn", "archive beyond the limit"),
        "element-missing": ("thiếu phần tử bắt buộc", "element missing"),
        "status-code-unknown": ("mã trạng thái xử lý lạ", "unknown status code"),
        "digest-mismatch": ("mã băm không khớp", "digest mismatch"),
        "code-empty": ("mã định danh bỏ trống", "empty code"),
        "code-placeholder": ("không phải mã định danh", "placeholder for a code"),
        "code-too-long": ("mã định danh quá dài", "code too long"),
        "code-bad-character": ("mã định danh có ký tự lạ", "bad character in a code"),
        "code-bad-group": ("mã định danh có nhóm sai", "bad group in a code"),
        "recipient-unknown": ("mã Bên nhận không có trong danh mục", "unknown recipient"),
        "recipient-closed": ("mã Bên nhận đã đóng", "recipient closed"),
        "recipient-locked": ("mã Bên nhận đang tạm khóa", "recipient locked"),
        "recipient-not-connected": ("Bên nhận chưa kết nối, gửi văn bản giấy", "recipient not connected, use paper"),
        "no-recipient": ("không có Bên nhận gửi đến được", "no recipient"),
        "all-or-nothing": ("không gửi được đến tất cả", "not all could be reached"),
        "status-target-unknown": ("không thấy văn bản được trả lời", "answered document not found"),
        "sender-unknown": ("mã Bên gửi không có trong danh mục", "unknown sender"),
        "sender-not-allowed": ("không được dùng mã Bên gửi", "sender not allowed"),
        "system-unknown": ("hệ thống chưa đăng ký", "unknown system"),
        "system-disabled": ("hệ thống đã ngừng sử dụng", "system disabled"),
        "network-forbidden": ("địa chỉ mạng không được phép", "network forbidden"),
        "client-certificate-missing": ("chưa trình chứng thư số", "client certificate missing"),
        "client-certificate-unknown": ("chứng thư số không phải của hệ thống", "another client certificate"),
        "client-certificate-dates": ("chứng thư số ngoài kỳ hiệu lực", "client certificate out of its dates"),
        "client-certificate-revoked": ("chứng thư số đã bị thu hồi", "client certificate revoked"),
        "credentials-wrong": ("sai mã hệ thống hoặc khóa bí mật", "wrong system id or secret"),
        "signature-wrong": ("chữ ký HMAC không đúng", "wrong HMAC"),
        "signature-text-damaged": ("phần được ký bị hỏng", "damaged signed text"),
        "signature-missing": ("thiếu tiêu đề xác thực", "authentication header missing"),
        "header-mismatch": ("tiêu đề khác giá trị đã ký", "header differs from the signed one"),
        "service-unknown": ("loại dịch vụ không phục vụ", "unknown service type"),
        "operation-unknown": ("không có thao tác này", "unknown operation"),
        "request-malformed": ("yêu cầu sai dạng", "malformed request"),
        "doc-unknown": ("không có văn bản này", "unknown document"),
        "doc-ambiguous": ("hai mã văn bản khác nhau", "two document ids"),
        "status-word-unknown": ("từ trạng thái lạ", "unknown status word"),
        "wire-malformed": ("dữ liệu giữa hai nút sai dạng", "malformed data on the link"),
        "wire-too-large": ("dữ liệu giữa hai nút quá lớn", "too much data on the link"),
        "peer-unknown": ("nút chưa đăng ký", "unknown peer"),
        "peer-name": ("tên trong chứng thư số không đúng", "wrong name in the certificate"),
        "peer-key": ("khóa của nút chưa đăng ký", "unregistered key"),
        "peer-revoked": ("chứng thư số đã bị thu hồi", "certificate revoked"),
        "peer-list-old": ("danh sách thu hồi quá cũ", "revocation list too old"),
        "peer-dates": ("chứng thư số không trong thời gian hiệu lực", "certificate outside its dates"),
        "invite-malformed": ("mã mời gõ sai", "token mistyped"),
        "invite-unknown": ("không có lời mời này", "no such invitation"),
        "invite-expired": ("mã mời hết hạn", "token expired"),
        "invite-used": ("mã mời đã dùng", "token used"),
        "directory-outside": ("mã do nút khác quản lý", "another node administers the code"),
        "directory-law": ("danh mục sẽ trái quy tắc", "the directory would break a rule"),
        "peer-registered": ("mã đã có nút đăng ký", "a node is registered already"),
        "sender-outside": ("Bên gửi ngoài phạm vi của nút", "sender outside the node"),
        "origin-signature": ("chữ ký của nút gốc không xác thực được", "origin's signature not verified"),
        "digest-conflict": ("trùng mã, khác nội dung", "same id, other content"),
        "too-many-hops": ("qua quá nhiều nút", "too many hops"),
        "loop": ("đường đi lặp vòng", "loop"),
        "lifetime": ("hạn chuyển quá xa", "lifetime too long"),
        "body-unknown": ("không có phần nội dung", "unknown body"),
        "body-damaged": ("phần nội dung bị hỏng", "damaged body"),
        "expired": ("quá hạn chuyển", "lifetime over"),
        "dropped-by-operator": ("người vận hành dừng việc chuyển", "dropped by an operator"),
        "not-now": ("nút chưa phục vụ được", "not now"),
        "disk-full": ("gần hết dung lượng lưu trữ", "disk nearly full"),
        "internal": ("lỗi bên trong nút", "internal fault"),
    },
}
"""Short labels by kind and stable key. Numbers are keys as text ("0" … "4")."""

ERROR_OK = 0
ERROR_FILE = 10
ERROR_LOGIN = 15
ERROR_RECIPIENT = 18
ERROR_SENDER = 19
ERROR_SYSTEM = 20
ERROR_PROCESSING = 21
ERROR_FORMAT = 22
ERROR_LOCKED = 23
"""The nine numbers existing connectors know: all right; invalid file; wrong system id or key; receiver does not exist; sender not
registered; system error; file processing error; edXML not in the right format; receiver locked."""

TRIAL = LABELS["connection"]["thu-nghiem"][0]
"""Beside what one side sends or gets while it is connected on trial. # QĐ 28/2018 Điều 21.1"""

_NUMBERS: Mapping[int, str] = {
    ERROR_FILE: "package-empty package-too-large digest-mismatch",
    ERROR_LOGIN: "system-unknown system-disabled network-forbidden credentials-wrong signature-wrong signature-text-damaged"
    " signature-missing header-mismatch client-certificate-missing client-certificate-unknown client-certificate-dates"
    " client-certificate-revoked",
    ERROR_RECIPIENT: "recipient-unknown recipient-closed recipient-not-connected no-recipient all-or-nothing"
    " status-target-unknown code-empty code-placeholder code-too-long code-bad-character code-bad-group",
    ERROR_SENDER: "sender-unknown sender-not-allowed sender-outside",
    ERROR_SYSTEM: "service-unknown operation-unknown request-malformed doc-unknown doc-ambiguous status-word-unknown"
    " wire-malformed wire-too-large peer-unknown peer-name peer-key peer-dates peer-revoked peer-list-old"
    " origin-signature digest-conflict too-many-hops"
    " invite-malformed invite-unknown invite-expired invite-used peer-registered"
    " directory-outside directory-law"
    " loop lifetime expired dropped-by-operator not-now disk-full internal",
    ERROR_PROCESSING: "base64-broken archive-bomb body-unknown body-damaged",
    ERROR_FORMAT: "xml-malformed xml-doctype xml-too-deep not-edxml value-too-long too-many-elements element-missing"
    " status-code-unknown",
    ERROR_LOCKED: "recipient-locked",
}
_NUMBER_OF = {Reason(value): number for number, values in _NUMBERS.items() for value in values.split()}

_PLACE = re.compile(r"line ([0-9]+), column ([0-9]+)")
_PARSER_WORDS: Mapping[str, str] = {
    "syntax error": "sai cú pháp",
    "no element found": "không có phần tử nào, hoặc tệp bị cắt cụt",
    "not well-formed (invalid token)": "có ký tự không hợp lệ",
    "unclosed token": "thẻ chưa kết thúc",
    "partial character": "ký tự bị cắt cụt",
    "mismatched tag": "thẻ đóng không khớp thẻ mở",
    "duplicate attribute": "thuộc tính lặp lại",
    "junk after document element": "có nội dung thừa sau phần tử gốc",
    "undefined entity": "thực thể chưa khai báo",
    "reference to invalid character number": "số hiệu ký tự không hợp lệ",
    "unclosed CDATA section": "phần CDATA chưa kết thúc",
    "XML or text declaration not at start of entity": "khai báo XML không ở đầu tệp",
    "unknown encoding": "bảng mã lạ",
    "encoding specified in XML declaration is incorrect": "bảng mã khai báo không đúng",
    "unbound prefix": "tiền tố chưa khai báo",
}
"""What the XML parser says, for a clerk. What is not here is shown in the parser's own words."""

_UNSAFE_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_PART = re.compile(r"\[([^\[\]|]*)(?:\|([^\[\]|]*))?\]")
_FIELD = re.compile(r"\{(element|value|rule)\}")


def unsafe(character: str) -> bool:
    """Whether a character is a control, changes direction, is invisible, private, unassigned, or breaks a line."""
    return unicodedata.category(character) in _UNSAFE_CATEGORIES


def visible(text: str) -> str:
    """The text with every unsafe character written out, such as <U+202E>.

    What others send may stand in a sentence, a table or a terminal only after this; line breaks count as controls.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(f"<U+{ord(c):04X}>" if unsafe(c) else c for c in text)


def label(kind: str, key: object, lang: Lang = "vi") -> str:
    """The word for a key of one kind. An unknown kind is our bug (KeyError); an unknown key is data and comes back as it is."""
    pair = LABELS[kind].get(str(key))
    return visible(str(key)) if pair is None else pair[LANGUAGES.index(lang)]


def sentence(refused: Refused, lang: Lang = "vi") -> str:
    """One sentence for a clerk: what was judged, what stood there, which rule was broken. Without the stable code."""
    rule = _parser_in_vietnamese(refused.rule) if lang == "vi" and refused.reason is Reason.XML_MALFORMED else refused.rule
    fields = {"element": visible(refused.element), "value": visible(refused.value), "rule": visible(rule)}

    def part(match: re.Match[str]) -> str:
        told, otherwise = match.group(1), match.group(2) or ""
        return told if all(fields[name] for name in _FIELD.findall(told)) else otherwise

    template = _PART.sub(part, SENTENCES[refused.reason][LANGUAGES.index(lang)])
    return _FIELD.sub(lambda match: fields[match.group(1)], template)


def _parser_in_vietnamese(rule: str) -> str:
    place, separator, said = rule.partition(": ")
    return _PLACE.sub(r"dòng \1, cột \2", place) + separator + _PARSER_WORDS.get(said, said)


def with_code(refused: Refused, lang: Lang = "vi") -> str:
    """The sentence and the stable code in brackets, as the office doors show it in ErrorDesc."""
    return f"{sentence(refused, lang)} [{refused.reason}]"


def error_number(reason: Reason) -> int:
    """The number (10 … 23) under which existing connectors know this kind of failure."""
    return _NUMBER_OF[reason]
