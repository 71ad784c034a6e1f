%% A node of the distribution protocol (handshake version 6) made by hand, for what a real one never does: many nodes in
%% one process, a wrong cookie, silence in the middle, frames that are lies. It answers nothing by itself, not even
%% ticks, so that a test sees every frame and says every byte.
%%
%% A client belongs to the process that opened it. Steps of a handshake can be taken one by one: open, send_name,
%% recv_status, recv_challenge, send_reply, recv_ack; connect takes them all.
-module(dist_client).

-export([connect/1, open/1, send_name/1, send_name/2, recv_status/1, recv_challenge/1, send_reply/2, recv_ack/1]).
-export([listen/1, accept/2, recv_name/1, send_status/2, send_challenge/1, recv_reply/1, send_ack/1, answer/1]).
-export([close/1, raw/2, frame/2, frame_bytes/1, control/2, control/3, control_bytes/1, control_bytes/2, tick/1]).
-export([recv/1, recv/2, recv_frame/2, wait_closed/1, wait_closed/2]).
-export([pid/2, ref/2, call/2, call/3, request/2, request/3, reply/3, ping/1, name/1, socket/1, peer/1, peer_flags/1]).
-export([epmd_port/0, epmd_names/1, epmd_port/2, epmd_kill/1, epmd_register/3]).

%% What a hidden node of OTP 25 must have, monitors of names and aliases.
-define(FLAGS, (16#407074fbc bor 16#800000000)).
-define(NAME_ME, 16#200000000).
-define(TIMEOUT, 30000).

-record(client, {
    socket :: gen_tcp:socket(),
    name :: atom(),
    cookie :: atom() | string(),
    flags :: non_neg_integer(),
    creation :: non_neg_integer(),
    %% What the peer said.
    peer :: undefined | string(),
    peer_flags = 0 :: non_neg_integer(),
    challenge = 0 :: non_neg_integer(),
    own_challenge = 0 :: non_neg_integer()
}).

%% Options: name, port, cookie; host (address, default loopback), flags, creation, socket (options for gen_tcp).

connect(Options) ->
    case open(Options) of
        {ok, C} -> shake(C);
        {error, _} = E -> E
    end.

shake(C) ->
    ok = send_name(C),
    case recv_status(C) of
        {ok, Status} when Status =:= "ok"; Status =:= "ok_simultaneous" -> shake_on(C);
        {ok, Status} -> give_up(C, {status, Status});
        {error, E} -> give_up(C, E)
    end.

shake_on(C0) ->
    maybe_error(C0, recv_challenge(C0), fun(C) ->
        C1 = send_reply(C, ok),
        maybe_error(C1, recv_ack(C1), fun(ok) -> {ok, C1} end)
    end).

maybe_error(C, {error, E}, _) -> give_up(C, E);
maybe_error(_, {ok, X}, Fun) -> Fun(X);
maybe_error(_, ok, Fun) -> Fun(ok).

give_up(C, E) ->
    close(C),
    {error, E}.

open(#{port := Port} = Options) ->
    Sockopts = [binary, {packet, raw}, {active, false}, {nodelay, true}] ++ maps:get(socket, Options, []),
    case gen_tcp:connect(maps:get(host, Options, {127, 0, 0, 1}), Port, Sockopts, ?TIMEOUT) of
        {ok, S} -> {ok, client(S, Options)};
        {error, _} = E -> E
    end.

client(S, Options) ->
    #client{
        socket = S,
        name = maps:get(name, Options, 'client@127.0.0.1'),
        cookie = maps:get(cookie, Options, erlang:get_cookie()),
        flags = maps:get(flags, Options, ?FLAGS),
        creation = maps:get(creation, Options, 7)
    }.

send_name(#client{name = Name} = C) ->
    send_name(C, atom_to_binary(Name)).

send_name(#client{flags = Flags, creation = Creation} = C, Name) ->
    send2(C, <<"N", Flags:64, Creation:32, (byte_size(Name)):16, Name/binary>>).

recv_status(C) ->
    case recv2(C) of
        {ok, <<"s", Status/binary>>} -> {ok, binary_to_list(Status)};
        {ok, Other} -> {error, {not_a_status, Other}};
        {error, _} = E -> E
    end.

recv_challenge(C) ->
    case recv2(C) of
        {ok, <<"N", Flags:64, Challenge:32, _Creation:32, Len:16, Name:Len/binary>>} ->
            {ok, C#client{peer = binary_to_list(Name), peer_flags = Flags, challenge = Challenge}};
        {ok, Other} ->
            {error, {not_a_challenge, Other}};
        {error, _} = E ->
            E
    end.

%% How: ok, or {cookie, Other} to prove that other cookie.
send_reply(#client{cookie = Cookie, challenge = Challenge} = C, How) ->
    Own = rand:uniform(16#ffffffff),
    Digest =
        case How of
            ok -> digest(Cookie, Challenge);
            {cookie, Other} -> digest(Other, Challenge)
        end,
    ok = send2(C, <<"r", Own:32, Digest/binary>>),
    C#client{own_challenge = Own}.

recv_ack(#client{cookie = Cookie, own_challenge = Own} = C) ->
    Expected = digest(Cookie, Own),
    case recv2(C) of
        {ok, <<"a", Expected/binary>>} -> ok;
        {ok, Other} -> {error, {not_an_ack, Other}};
        {error, _} = E -> E
    end.

digest(Cookie, Challenge) ->
    erlang:md5([io_lib:format("~s", [Cookie]), integer_to_list(Challenge)]).

%% --- The other side: being connected to ---

%% {ok, ListenSocket, Port}
listen(Options) ->
    {ok, L} = gen_tcp:listen(0, [binary, {packet, raw}, {active, false}, {nodelay, true} | Options]),
    {ok, Port} = inet:port(L),
    {ok, L, Port}.

accept(L, Options) ->
    case gen_tcp:accept(L, ?TIMEOUT) of
        {ok, S} -> {ok, client(S, Options)};
        {error, _} = E -> E
    end.

recv_name(C) ->
    case recv2(C) of
        {ok, <<"N", Flags:64, _Creation:32, Len:16, Name:Len/binary>>} ->
            {ok, C#client{peer = binary_to_list(Name), peer_flags = Flags}};
        {ok, Other} ->
            {error, {not_a_name, Other}};
        {error, _} = E ->
            E
    end.

send_status(C, Status) ->
    send2(C, ["s", Status]).

send_challenge(#client{name = Name, flags = Flags, creation = Creation} = C) ->
    Own = rand:uniform(16#ffffffff),
    Bin = atom_to_binary(Name),
    ok = send2(C, <<"N", Flags:64, Own:32, Creation:32, (byte_size(Bin)):16, Bin/binary>>),
    C#client{own_challenge = Own}.

recv_reply(#client{cookie = Cookie, own_challenge = Own} = C) ->
    Expected = digest(Cookie, Own),
    case recv2(C) of
        {ok, <<"r", Challenge:32, Expected:16/binary>>} -> {ok, C#client{challenge = Challenge}};
        {ok, Other} -> {error, {not_a_reply, Other}};
        {error, _} = E -> E
    end.

send_ack(#client{cookie = Cookie, challenge = Challenge} = C) ->
    send2(C, [<<"a">>, digest(Cookie, Challenge)]).

%% All steps of the accepting side.
answer(C0) ->
    maybe_error(C0, recv_name(C0), fun(C1) ->
        ok = send_status(C1, "ok"),
        C2 = send_challenge(C1),
        maybe_error(C2, recv_reply(C2), fun(C3) ->
            ok = send_ack(C3),
            {ok, C3}
        end)
    end).

%% --- Messages of the handshake: a length of two bytes ---

send2(#client{socket = S}, Data) ->
    gen_tcp:send(S, [<<(iolist_size(Data)):16>>, Data]).

recv2(#client{socket = S}) ->
    case gen_tcp:recv(S, 2, ?TIMEOUT) of
        {ok, <<Len:16>>} -> gen_tcp:recv(S, Len, ?TIMEOUT);
        {error, _} = E -> E
    end.

%% --- Frames: a length of four bytes ---

raw(#client{socket = S}, Data) ->
    gen_tcp:send(S, Data).

frame(C, Data) ->
    raw(C, frame_bytes(Data)).

frame_bytes(Data) ->
    [<<(iolist_size(Data)):32>>, Data].

tick(C) ->
    raw(C, <<0:32>>).

control(C, Tuple) ->
    raw(C, control_bytes(Tuple)).

control(C, Tuple, Payload) ->
    raw(C, control_bytes(Tuple, Payload)).

control_bytes(Tuple) ->
    iolist_to_binary(frame_bytes([112, bytes(Tuple)])).

control_bytes(Tuple, Payload) ->
    iolist_to_binary(frame_bytes([112, bytes(Tuple), bytes(Payload)])).

bytes({raw, Bytes}) -> Bytes;
bytes(Term) -> term_to_binary(Term, [{minor_version, 2}]).

%% tick | {Control, none | {ok, Payload}} | {error, Reason}. A payload that no Erlang node could have sent (a tag that was
%% damaged on purpose comes back as it was) is {undecodable, Bytes} instead of {ok, Payload}.
recv(C) ->
    recv(C, ?TIMEOUT).

recv(C, Timeout) ->
    case recv_frame(C, Timeout) of
        {ok, <<>>} ->
            tick;
        {ok, <<112, Rest/binary>>} ->
            {Control, Used} = control_of(Rest),
            case Rest of
                <<_:Used/binary>> -> {Control, none};
                <<_:Used/binary, Payload/binary>> -> {Control, decode(Payload)}
            end;
        {error, _} = E ->
            E
    end.

%% The control message may have a damaged pid or reference, too: then it is `undecodable`, and the payload is not found.
control_of(Bytes) ->
    try
        binary_to_term(Bytes, [used])
    catch
        error:badarg -> {undecodable, byte_size(Bytes)}
    end.

decode(Payload) ->
    try
        {ok, binary_to_term(Payload)}
    catch
        error:badarg -> {undecodable, Payload}
    end.

recv_frame(#client{socket = S}, Timeout) ->
    case gen_tcp:recv(S, 4, Timeout) of
        {ok, <<0:32>>} -> {ok, <<>>};
        {ok, <<Len:32>>} -> gen_tcp:recv(S, Len, ?TIMEOUT);
        {error, _} = E -> E
    end.

%% Reads on until the peer closes the connection.
wait_closed(C) ->
    wait_closed(C, ?TIMEOUT).

wait_closed(#client{socket = S}, Timeout) ->
    Deadline = erlang:monotonic_time(millisecond) + Timeout,
    wait_closed_until(S, Deadline).

wait_closed_until(S, Deadline) ->
    case gen_tcp:recv(S, 0, max(0, Deadline - erlang:monotonic_time(millisecond))) of
        {ok, _} -> wait_closed_until(S, Deadline);
        {error, timeout} -> {error, timeout};
        {error, _} -> ok
    end.

close(#client{socket = S}) ->
    gen_tcp:close(S).

socket(#client{socket = S}) -> S.

peer(#client{peer = Peer}) -> Peer.

peer_flags(#client{peer_flags = Flags}) -> Flags.

%% --- Processes of this node, which are only numbers ---

pid(#client{name = Name, creation = Creation}, N) ->
    binary_to_term(<<131, 88, (atom_bytes(Name))/binary, N:32, 0:32, Creation:32>>).

ref(#client{name = Name, creation = Creation}, N) ->
    binary_to_term(<<131, 90, 3:16, (atom_bytes(Name))/binary, Creation:32, N:32, 17:32, 23:32>>).

atom_bytes(Name) ->
    Bin = atom_to_binary(Name),
    <<119, (byte_size(Bin)), Bin/binary>>.

%% A request to `py` as gen_server:call sends it, with an alias; answered when a reply with its tag comes.
call(C, Request) ->
    call(C, Request, ?TIMEOUT).

call(C, Request, Timeout) ->
    reply(C, request(C, Request), Timeout).

request(C, Request) ->
    request(C, Request, erlang:unique_integer([positive]) band 16#3ffff).

%% N makes the tag; the number of the process is 1.
request(C, Request, N) ->
    Pid = pid(C, 1),
    Tag = [alias | ref(C, N)],
    ok = control(C, {6, Pid, '', py}, {'$gen_call', {Pid, Tag}, Request}),
    Tag.

%% Ticks and other messages on the way are skipped.
reply(C, [alias | Ref] = Tag, Timeout) ->
    case recv(C, Timeout) of
        {{33, _From, Ref}, {ok, {Tag, Result}}} -> Result;
        {error, _} = E -> E;
        _ -> reply(C, Tag, Timeout)
    end.

ping(C) ->
    Pid = pid(C, 1),
    Tag = [alias | ref(C, erlang:unique_integer([positive]) band 16#3ffff)],
    ok = control(C, {6, Pid, '', net_kernel}, {'$gen_call', {Pid, Tag}, {is_auth, C#client.name}}),
    case reply(C, Tag, ?TIMEOUT) of
        yes -> pong;
        Other -> Other
    end.

%% The name for a client of that number or word on this host.
name(Which) ->
    [_, Host] = string:split(atom_to_list(node()), "@"),
    list_to_atom(lists:concat(["client", Which, "@", Host])).

%% --- epmd, on whatever port ---

%% The one of this node.
epmd_port() ->
    case os:getenv("ERL_EPMD_PORT") of
        false -> 4369;
        Text -> list_to_integer(Text)
    end.

%% {ok, [{Name, Port}]} | {error, _}
epmd_names(Port) ->
    case epmd_ask(Port, <<110>>) of
        {ok, <<_:32, Text/binary>>} ->
            Lines = string:lexemes(binary_to_list(Text), "\n"),
            {ok, [name_line(L) || L <- Lines]};
        {ok, Other} ->
            {error, {not_epmd, Other}};
        {error, _} = E ->
            E
    end.

name_line(Line) ->
    ["name", Name, "at", "port", Port] = string:lexemes(Line, " "),
    {Name, list_to_integer(Port)}.

epmd_port(Port, Alive) ->
    case epmd_names(Port) of
        {ok, Names} ->
            case lists:keyfind(Alive, 1, Names) of
                {_, P} -> {ok, P};
                false -> {error, unknown}
            end;
        {error, _} = E ->
            E
    end.

%% What `epmd -kill` sends; epmd refuses it while nodes are registered, unless it was started relaxed.
epmd_kill(Port) ->
    epmd_ask(Port, <<107>>).

%% {ok, Socket, Creation}: registered for as long as the socket is open.
epmd_register(Epmd, Alive, Port) ->
    {ok, S} = gen_tcp:connect({127, 0, 0, 1}, Epmd, [binary, {packet, raw}, {active, false}]),
    Name = list_to_binary(Alive),
    Ask = <<120, Port:16, 72, 0, 6:16, 5:16, (byte_size(Name)):16, Name/binary, 0:16>>,
    ok = gen_tcp:send(S, [<<(byte_size(Ask)):16>>, Ask]),
    case gen_tcp:recv(S, 2, ?TIMEOUT) of
        {ok, <<118, 0>>} ->
            {ok, <<Creation:32>>} = gen_tcp:recv(S, 4, ?TIMEOUT),
            {ok, S, Creation};
        {ok, <<_, 0>>} ->
            {ok, <<Creation:16>>} = gen_tcp:recv(S, 2, ?TIMEOUT),
            {ok, S, Creation};
        Other ->
            gen_tcp:close(S),
            {error, Other}
    end.

epmd_ask(Port, Request) ->
    case gen_tcp:connect({127, 0, 0, 1}, Port, [binary, {packet, raw}, {active, false}]) of
        {ok, S} ->
            ok = gen_tcp:send(S, [<<(byte_size(Request)):16>>, Request]),
            Answer = recv_all(S, <<>>),
            gen_tcp:close(S),
            {ok, Answer};
        {error, _} = E ->
            E
    end.

recv_all(S, Acc) ->
    case gen_tcp:recv(S, 0, ?TIMEOUT) of
        {ok, Data} -> recv_all(S, <<Acc/binary, Data/binary>>);
        {error, closed} -> Acc
    end.
