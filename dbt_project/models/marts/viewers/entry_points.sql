with ratings as (

    select * from {{ ref('fct_ratings') }}
    where edition != 'streaming'

),

starts as (

    select * from {{ ref('int_user_starts') }}
    where has_stayed is not null

),

-- The least few of each user, kept while the ratings go by: a window would sort all of them.
firsts as (

    select
        user_key,
        unnest(arg_min(movie_key, (rated_at, movie_key), {{ first_films() }})) as movie_key
    from ratings
    group by user_key

),

films as (

    select
        firsts.movie_key,
        count(*) as newcomers,
        count(*) filter (where starts.has_stayed) as stayed
    from firsts
    inner join starts on firsts.user_key = starts.user_key
    group by firsts.movie_key

),

everybody as (

    select count(*) filter (where has_stayed) / count(*) as base_rate
    from starts

),

rates as (

    select
        films.movie_key,
        films.newcomers,
        films.stayed,
        films.stayed / films.newcomers as stay_rate,
        everybody.base_rate
    from films
    cross join everybody

),

-- Wilson's interval: it stays within 0 and 1 also for the few newcomers that most films have.
intervals as (

    select
        *,
        (stay_rate + 1.9208 / newcomers) / (1 + 3.8416 / newcomers) as centre,
        1.96 * sqrt(stay_rate * (1 - stay_rate) / newcomers + 0.9604 / (newcomers * newcomers))
        / (1 + 3.8416 / newcomers) as half_width
    from rates

),

final as (

    select
        movie_key,
        cast(newcomers as integer) as newcomers,
        cast(stayed as integer) as stayed,
        round(stay_rate, 6) as stay_rate,
        round(greatest(centre - half_width, 0), 6) as stay_rate_low,
        round(least(centre + half_width, 1), 6) as stay_rate_high,
        round(base_rate, 6) as base_rate,
        round(stay_rate / nullif(base_rate, 0), 6) as lift
    from intervals

)

select * from final
