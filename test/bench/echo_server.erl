%% The yardstick of `make bench`: what a BEAM node answers by a plain gen_server.
-module(echo_server).
-behaviour(gen_server).

-export([start_link/0]).
-export([init/1, handle_call/3, handle_cast/2]).

-spec start_link() -> {ok, pid()}.
start_link() ->
    {ok, _} = gen_server:start_link({local, echo}, ?MODULE, [], []).

init([]) ->
    {ok, none}.

%% The same work as a call has on the C-node: the request is taken apart, a small answer is made.
handle_call({call, math, sqrt, [N]}, _From, State) ->
    {reply, {ok, math:sqrt(N)}, State};
handle_call({call, _Module, identity, [Term]}, _From, State) ->
    {reply, {ok, Term}, State}.

handle_cast(_Msg, State) ->
    {noreply, State}.
